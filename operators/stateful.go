package operators

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Stateful calls f for every record with the state of the record's key: the way to write what no operator does. A is what is kept per
// key, zero at first; f changes it in place by Cell.State, emits any number of results, and may set a timer.
//
// Order: the records of a key come in order of arrival, which is not that of event time; late ones come, too (Time <= Watermark).
//
// Timers: each key has one timer of event time, which the option OnTimer handles, and one of the clock, which OnClockTimer handles.
// Setting a timer that is set moves it, as in Apache Beam. Event timers fire in order of (time, key group, slot) when the watermark reaches
// them, before it goes on downstream. A key that needs several keeps their times in its state and sets the earliest.
//
// Errors: an f that fails (or panics) leaves nothing behind: state, timers and what it emitted are as before, and the record goes to the
// dead letters. For that, the state is copied before each call: by assignment where A consists of numbers, bools, strings, times,
// arrays and structs of them; by its method Clone() A where there is one; else it is encoded, and decoded again after an error. An A
// with large maps or slices should have a Clone, which may return the value itself if f changes nothing before it can fail. A permanent
// error of a timer's function stops the topology, since there is no record to blame; a transient one is tried again.
//
// State: one A per key. With a ttl a key is forgotten when the watermark reaches its last use + ttl: the use is a record (its time, or the
// watermark on its arrival if that is later) or a timer that fired. A key whose timer is set is kept until that has fired. This is event
// time, other than the ttl of Flink's state: a replay forgets what the first run forgot, and nothing is forgotten while the stream stands
// still. With ttl 0 keys are kept until Clear. Where A can be copied by assignment it lies in flat memory stored by pages of 64 keys,
// unexported fields too; else each key is an entry of its own, as CBOR by field name (see codec.CBOR).
//
// A crash rolls back state and timers to the last epoch, together with the sources; what f emitted since is emitted again. f must
// depend on nothing but its arguments (Cell.Now aside), and must keep neither the cell nor State.
func Stateful[K comparable, T, A, R any](s flow.KeyedStream[K, T], name string, ttl time.Duration,
	f func(ctx context.Context, c *Cell[K, A, R], v T) error, opts ...StatefulOption[K, A, R]) flow.Stream[R] {
	cfg := flow.Configure(&statefulConfig{}, opts)
	onTimer, _ := cfg.onTimer.(timerFunc[K, A, R])
	onClock, _ := cfg.onClock.(timerFunc[K, A, R])
	kind := cfg.Traits.Kind
	if kind == "" {
		kind = "stateful"
	}
	cfg.Traits = flow.Traits{
		Kind: kind, EventTime: ttl > 0 || onTimer != nil, Stateful: true, Counts: true, Loses: "the state and the timers of all keys",
	}
	if f == nil {
		cfg.Problem("its function is nil", "pass a function of the key's cell and the record")
	}
	if ttl < 0 {
		cfg.Problem(fmt.Sprintf("the ttl %v is negative", ttl), "give 0 to keep keys until Clear")
	}
	storable[A](&cfg.NodeConfig)
	return flow.ApplyKeyed[K, T, R](s, name, func() *stateful[K, T, A, R] {
		return &stateful[K, T, A, R]{
			cells: cells[K, A]{ttl: ttl, timed: ttl > 0 || onTimer != nil || onClock != nil},
			f:     f, onTimer: onTimer, onClock: onClock, sides: cfg.sides, done: flow.None,
		}
	}, flow.With(cfg))
}

// StatefulOption configures Stateful.
type StatefulOption[K comparable, A, R any] func(flow.Configurable)

type statefulConfig struct {
	flow.NodeConfig
	onTimer any
	onClock any
	sides   []sideOpener
}

type timerFunc[K comparable, A, R any] = func(ctx context.Context, c *Cell[K, A, R], at flow.Timestamp) error

// OnTimer is called for a key when the watermark reaches the timer that Cell.SetTimer set for it.
func OnTimer[K comparable, A, R any](f func(ctx context.Context, c *Cell[K, A, R], at flow.Timestamp) error) StatefulOption[K, A, R] {
	return flow.SetOption(func(c *statefulConfig) {
		c.onTimer = f
		if f == nil {
			c.Problem("the function of OnTimer is nil", "pass a function of the key's cell and the time")
		}
	})
}

// OnClockTimer is called for a key when the clock reaches the timer that Cell.SetClockTimer set for it. Such timers are stored with the
// state: one that came due while the topology was down fires at its start. The end of a stream does not fire them. What they emit has the
// time Cell.Time unless EmitAt says otherwise, and depends on when they fire: a crash may repeat it at another time.
func OnClockTimer[K comparable, A, R any](f func(ctx context.Context, c *Cell[K, A, R], at flow.Timestamp) error) StatefulOption[K, A, R] {
	return flow.SetOption(func(c *statefulConfig) {
		c.onClock = f
		if f == nil {
			c.Problem("the function of OnClockTimer is nil", "pass a function of the key's cell and the time")
		}
	})
}
