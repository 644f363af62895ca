package operators

import (
	"errors"

	"github.com/millrace-stream/millrace/flow"
)

// Cell is one key's place in a Stateful, during one call of its function. It is the task's and used again for the next call.
type Cell[K comparable, A, R any] struct {
	// State is what is kept of the key, to be changed in place.
	State *A

	key     K
	time    flow.Timestamp
	meta    *flow.Meta
	wm      flow.Timestamp
	rt      flow.Runtime
	clock   flow.Clock
	timer   flow.Timestamp // as it will be set, None if not
	alarm   flow.Timestamp // of the clock
	floor   flow.Timestamp // timers must be later than that
	slot    flow.Slot
	fresh   bool
	cleared bool
	err     error
	// mayTime and mayAlarm tell whether there are functions for timers.
	mayTime, mayAlarm bool

	out     *flow.Output[R] // nil during a timer: its results are held back until it has succeeded
	emitted int
	held    []flow.Record[R]
	sides   []sideBuffer
}

// Key is the key.
func (c *Cell[K, A, R]) Key() K { return c.key }

// New tells whether nothing was kept of the key before this call.
func (c *Cell[K, A, R]) New() bool { return c.fresh }

// Time is the event time of the record; in OnTimer, that of the timer; in OnClockTimer, the moment behind the watermark, which is the
// earliest that is not late downstream (where there is no watermark, that of the timer).
func (c *Cell[K, A, R]) Time() flow.Timestamp { return c.time }

// Meta is the record's, nil in timers.
func (c *Cell[K, A, R]) Meta() *flow.Meta { return c.meta }

// Watermark is the operator's watermark: no more records with a time up to it are expected. It is flow.None before the first one, and
// flow.EndOfTime in timers that fire because a bounded stream ends.
func (c *Cell[K, A, R]) Watermark() flow.Timestamp { return c.wm }

// Now is the time of the topology's clock. What depends on it differs behind a crash.
func (c *Cell[K, A, R]) Now() flow.Timestamp { return flow.TimestampOf(c.clock.Now()) }

// Count adds n to a counter of the node, whose name is in snake_case. It is not taken back where the function fails. It costs more than
// state: count what is rare.
func (c *Cell[K, A, R]) Count(counter string, n int64) { c.rt.Count(counter, n) }

// Emit adds a result with Time and Meta.
func (c *Cell[K, A, R]) Emit(r R) { c.EmitAt(c.time, r) }

// EmitAt adds a result with an event time of its own. One that is not later than Watermark is late for the operators downstream.
func (c *Cell[K, A, R]) EmitAt(at flow.Timestamp, r R) {
	if c.out == nil {
		c.held = append(c.held, flow.Record[R]{Value: r, Time: at, Meta: c.meta})
		return
	}
	*c.out.Next(at, c.meta) = r
	c.emitted++
}

// SetTimer sets the key's timer of event time, or moves it. A time that has passed (the watermark has reached it, or, in OnTimer, not
// later than the timer that fires) becomes the moment behind the watermark, so that it fires when that next moves. While a bounded
// stream ends (Watermark is flow.EndOfTime) nothing is set: what was set before fires, once.
func (c *Cell[K, A, R]) SetTimer(at flow.Timestamp) {
	switch {
	case !c.mayTime:
		c.fail(errors.New("SetTimer without a function for it: give operators.OnTimer to the Stateful"))
	case c.wm == flow.EndOfTime:
	case at <= c.floor:
		c.timer, c.cleared = c.wm+1, false
	default:
		c.timer, c.cleared = min(at, flow.EndOfTime-1), false
	}
}

// ClearTimer takes the timer of event time back.
func (c *Cell[K, A, R]) ClearTimer() { c.timer = flow.None }

// Timer is when the key's timer of event time will fire, flow.None if it is not set.
func (c *Cell[K, A, R]) Timer() flow.Timestamp { return c.timer }

// SetClockTimer sets the key's timer of the clock, or moves it. A time that has passed becomes the moment behind Now.
func (c *Cell[K, A, R]) SetClockTimer(at flow.Timestamp) {
	if !c.mayAlarm {
		c.fail(errors.New("SetClockTimer without a function for it: give operators.OnClockTimer to the Stateful"))
		return
	}
	c.alarm, c.cleared = max(at, c.Now()+1), false
}

// ClearClockTimer takes the timer of the clock back.
func (c *Cell[K, A, R]) ClearClockTimer() { c.alarm = flow.None }

// ClockTimer is when the key's timer of the clock will fire, flow.None if it is not set.
func (c *Cell[K, A, R]) ClockTimer() flow.Timestamp { return c.alarm }

// Clear forgets the key: its state, and its timers. State is zero from then on, and what this call still puts there is forgotten too, unless
// it sets a timer afterwards.
func (c *Cell[K, A, R]) Clear() {
	*c.State = *new(A)
	c.timer, c.alarm, c.cleared = flow.None, flow.None, true
}

// fail makes the call fail when it returns.
func (c *Cell[K, A, R]) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// takeBack forgets what the call emitted.
func (c *Cell[K, A, R]) takeBack() {
	if c.out != nil {
		c.out.Undo(c.emitted)
	}
	c.emitted = 0
	clear(c.held)
	c.held = c.held[:0]
	for _, s := range c.sides {
		s.drop()
	}
}
