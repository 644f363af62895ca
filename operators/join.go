package operators

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/join"
)

// Joined is the result of a join: a stream of results with the side outputs of records that came too late.
type Joined[T, V, R any] struct {
	flow.Stream[R]
	left  flow.Stream[flow.Late[T]]
	right flow.Stream[flow.Late[V]]
}

// LateLeft is the stream of left records that came too late to be joined. Unconnected, they are counted (late_left) and dropped.
func (j Joined[T, V, R]) LateLeft() flow.Stream[flow.Late[T]] { return j.left }

// LateRight is the same for the right input (late_right).
func (j Joined[T, V, R]) LateRight() flow.Stream[flow.Late[V]] { return j.right }

// Join joins each left record with those right ones of its key whose time lies within an interval around its own: right.time - left.time
// between both bounds of when. It is the interval join of Apache Flink's DataStream API, an inner join: a record without a partner
// gives nothing (see OuterJoin).
//
// A pair comes out when the second of both arrives, with the later of both times and the Meta of the record that completed it. The pairs
// of one record come in order of their partners' times. There is no order between pairs, as there is none between the two inputs.
//
// The watermark is the least of both inputs'. A record whose time is below it is late, comes out of LateLeft or LateRight, and is not
// joined. One without a time is treated as late, too.
//
// State: a left record is kept until the watermark reaches its time + upper, a right one until its time - lower (in both cases not less
// than its own time), and up to an eighth of that longer, at least 250 ms, since state is freed by buckets of time. So state is bounded by
// the interval, the watermark's delay and the rate of records; an input that stands still holds the watermark, and so the state of the
// other, until it is idle (see watermark.Strategy). A record is stored once, by appending to its bucket, whatever else its key holds.
// Changing the interval changes the state: the next start refuses it and names the cure.
//
// Cost: a binary search among the key's records per record, and one call of f per pair. A record with very many partners gives them all
// in one batch.
//
// Errors: a record whose call of f panics, or that cannot be encoded for the state, goes to the dead letters, and leaves nothing behind.
//
// A crash rolls back to the last epoch together with both sources, so no pair is lost; those of the replayed part come again. f must
// depend on nothing but its arguments.
func Join[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, when join.Interval, f func(T, V) R, opts ...join.Option) Joined[T, V, R] {
	var g func(*T, *V) R
	if f != nil {
		g = func(l *T, r *V) R { return f(*l, *r) }
	}
	return intervalJoin(left, right, name, when, join.Inner, g, opts)
}

// OuterJoin is a Join that also gives records without a partner, as the LEFT, RIGHT and FULL joins of SQL do: f gets nil for what is
// missing. Such a result comes when the watermark has reached the last moment at which a partner could have come (time + upper on the
// left, time - lower on the right, not less than its own time), in order of that moment, key group and slot, and has that moment as its
// time, so that it is not late downstream. The rule is that of the interval joins of Flink SQL, except that those give the record's own
// time and hold their watermark back instead.
//
// f must neither keep nor change what its arguments point to. In all else OuterJoin is like Join. State: besides, one small entry per
// record that finds its first partner after the epoch it came in, and one entry in memory per key with records that wait.
//
// Errors: a panic of f for a record without a partner stops the topology.
func OuterJoin[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, when join.Interval, kind join.Kind, f func(*T, *V) R, opts ...join.Option) Joined[T, V, R] {
	return intervalJoin(left, right, name, when, kind, f, opts)
}

func intervalJoin[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, when join.Interval, kind join.Kind, f func(*T, *V) R, opts []join.Option) Joined[T, V, R] {
	cfg := flow.Configure(&join.Config{Tolerance: -1}, opts)
	lower, upper, err := when.Bounds()
	if err != nil {
		cfg.Problem(err.Error(), "give a lower bound that is not above the upper one, like join.Between(-time.Minute, 0)")
	}
	if kind > join.Full {
		cfg.Problem(fmt.Sprintf("there is no %v join", kind), "give join.Inner, join.Left, join.Right or join.Full")
	}
	noLateness(cfg, "an interval join")
	noTolerance(cfg, "an interval join")
	keepLeft, keepRight := max(upper, 0), max(-lower, 0)
	codecs := settings[T, V](cfg, "join", f != nil, max(keepLeft, keepRight))
	out := joined[T, V, R](left.Topology(), name)
	out.Stream = flow.ApplyJoin[K, T, V, R](left, right, name, func() *intervals[K, T, V, R] {
		j := &intervals[K, T, V, R]{lower: lower, upper: upper, keepLeft: keepLeft, keepRight: keepRight, kind: kind, f: f, late: out.late}
		j.print = fmt.Sprintf("interval %d %d %v", lower, upper, kind)
		j.left.width, j.left.code = bucketWidth(keepLeft), codecs.left()
		j.right.width, j.right.code = bucketWidth(keepRight), codecs.right()
		return j
	}, flow.With(cfg))
	return out.Joined
}

// settings checks what all joins share, and makes the codecs of stored records.
func settings[T, V any](cfg *join.Config, kind string, hasFunc bool, horizon flow.Timestamp) (c joinCodecs[T, V]) {
	cfg.Traits = flow.Traits{
		Kind: kind, EventTime: true, Stateful: true, Counts: true, Horizon: time.Duration(horizon), Loses: "the records that wait for partners",
	}
	if !hasFunc {
		cfg.Problem("its function is nil", "pass the function that makes the results")
	}
	return joinCodecs[T, V]{storedAs[T](cfg.Left, &cfg.NodeConfig, "join.LeftCodec"), storedAs[V](cfg.Right, &cfg.NodeConfig, "join.RightCodec")}
}

type joinCodecs[T, V any] struct {
	left  func() stored[T]
	right func() stored[V]
}

func noLateness(cfg *join.Config, what string) {
	if cfg.Lateness != 0 {
		cfg.Problem("AllowedLateness on "+what, "take it out: it is for joins by windows. Raise the bound of the watermark instead")
	}
}

func noTolerance(cfg *join.Config, what string) {
	if cfg.Tolerance != -1 {
		cfg.Problem("Within on "+what, "take it out: it is for AsOf")
	}
}

// joinedSides is a Joined with the operator's ends of its side outputs.
type joinedSides[T, V, R any] struct {
	Joined[T, V, R]
	late lateSides[T, V]
}

func joined[T, V, R any](top *flow.Topology, name string) *joinedSides[T, V, R] {
	j := &joinedSides[T, V, R]{}
	j.late.left.side, j.left = flow.SideOutput[flow.Late[T]](top, name, "late-left")
	j.late.right.side, j.right = flow.SideOutput[flow.Late[V]](top, name, "late-right")
	return j
}

// lateSides are what becomes of late records.
type lateSides[T, V any] struct {
	left  lateSide[T]
	right lateSide[V]
}

func (l *lateSides[T, V]) open(rt flow.Runtime) {
	l.left.open(rt, "late_left")
	l.right.open(rt, "late_right")
}

type lateSide[T any] struct {
	side    *flow.Side[flow.Late[T]]
	out     *flow.Output[flow.Late[T]]
	rt      flow.Runtime
	counter string
}

func (l *lateSide[T]) open(rt flow.Runtime, counter string) {
	l.rt, l.counter, l.out = rt, counter, l.side.Open(rt)
}

func (l *lateSide[T]) refuse(r *flow.Record[T], reason string) {
	l.rt.Count(l.counter, 1)
	*l.out.Next(r.Time, r.Meta) = flow.Late[T]{Value: r.Value, Time: r.Time, Reason: reason}
}

// tooLate says why a record cannot be joined, "" if it can.
func tooLate(at, wm flow.Timestamp) string {
	switch {
	case at == flow.None:
		return "it has no time"
	case at < wm:
		return "its time is behind the watermark"
	}
	return ""
}
