package flow

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow/watermark"
)

// WatermarkStrategy says how watermarks follow from the records of a partition: see package watermark.
type WatermarkStrategy = watermark.Strategy

// TimedStream is a stream with event time and the side output of records whose time cannot be right.
type TimedStream[T any] struct {
	Stream[T]
	bad Stream[Late[T]]
}

// BadClock is the stream of records whose time is more than MaxFutureSkew ahead of the reference time, or outside the years 1678 to
// 2261, or missing, with the reason. Unconnected, they go to the dead letters.
func (s TimedStream[T]) BadClock() Stream[Late[T]] { return s.bad }

// AssignTime gives records their event time and makes watermarks, per source partition. It must stand above any KeyBy and
// Union. Marks stand where the watermark crosses a multiple of the strategy's Every, wherever batches were cut, so that a replay
// makes the same ones.
func AssignTime[T any](s Stream[T], name string, at func(T) time.Time, wm WatermarkStrategy, opts ...TimeOption[T]) TimedStream[T] {
	in := s.stream()
	t := in.t
	cfg := Configure(&timeConfig[T]{NodeConfig: NodeConfig{Traits: Traits{Kind: "assign-time"}}}, opts)
	cfg.Traits.Kind = "assign-time"
	side, bad := SideOutput[Late[T]](t, name, "bad-clock")
	n := t.addOperator(name, &cfg.NodeConfig, in.timed)
	p := newPort[T](t, n, "").like(true, false)
	settings, problem := wm.Settings()
	if problem != "" {
		t.problem(name, problem, "see package flow/watermark")
	}
	if in.moved {
		t.problem(name, "AssignTime stands below an exchange, KeyBy or Union", "assign time right behind each source: watermarks follow from a partition's own sequence of records")
	}
	for _, d := range []time.Duration{settings.IdleAfter, settings.CloseIdleAfter} {
		if d > 0 && (t.tick == 0 || d/4 < t.tick) {
			t.tick = d / 4
		}
	}
	if at == nil {
		t.problem(name, "the time function is nil", "pass a function from record to time.Time")
	}
	in.connect(n, func(b *builder) receiver[T] {
		st := &timeStage[T]{
			nodeTask: newNodeTask(b, n), at: at, punctuation: cfg.punctuation, set: settings, side: side, next: p.build(b), seen: &partitionTime{node: name},
			top: None, marked: None, cell: None, out: make([]Record[T], MaxBatch),
		}
		st.bad = side.Open(Runtime{st.nodeTask})
		st.seen.drift.Store(int64(settings.Align))
		st.publish()
		b.t.part.times = append(b.t.part.times, st.seen)
		b.t.clocks = append(b.t.clocks, st)
		return st
	})
	return TimedStream[T]{p, bad}
}

// timeConfig is that of AssignTime.
type timeConfig[T any] struct {
	NodeConfig
	punctuation func(T) (time.Time, bool)
}

// Punctuated takes watermarks from the records: where f returns true, no more records with times up to and including the one that it
// returns are expected behind that record. Bound and Every of the strategy have no meaning then; MaxAhead holds as ever, and a watermark
// that is lower than an earlier one is passed over.
func Punctuated[T any](f func(T) (time.Time, bool)) TimeOption[T] {
	return TimeOption[T](SetOption(func(c *timeConfig[T]) { c.punctuation = f }))
}

// timeStage assigns time within a source partition's task.
type timeStage[T any] struct {
	*nodeTask
	at func(T) time.Time
	// punctuation is nil where watermarks follow from the times.
	punctuation func(T) (time.Time, bool)
	seen        *partitionTime
	set         watermark.Settings
	side        *Side[Late[T]]
	bad         *Output[Late[T]]
	next        receiver[T]
	out         []Record[T]
	// top is the greatest time seen, capped by the reference; marked the last watermark sent; cell the number of marked's interval.
	top    Timestamp
	marked Timestamp
	cell   Timestamp
	idle   bool
	i      int
}

// partitionClock is what the epoch stores of a timeStage.
type partitionClock interface {
	collectClock(w *changes)
	restoreClock() error
	announce()
}

func (s *timeStage[T]) push(in []Record[T]) {
	if s.t.err != nil || len(in) == 0 {
		return
	}
	s.stats.in.Add(int64(len(in)))
	s.active()
	for len(in) > 0 && s.t.err == nil {
		n, err := s.run(in)
		in = in[n:]
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			in = in[1:]
		}
	}
	s.flushSides()
}

func (s *timeStage[T]) active() {
	if s.idle {
		s.idle = false
		s.publish()
		s.next.mark(mark{kind: markActive})
	}
}

// rise sends a watermark, if it is one.
func (s *timeStage[T]) rise(wm Timestamp) {
	if wm <= s.marked {
		return
	}
	s.marked = wm
	s.publish()
	s.next.mark(mark{kind: markWatermark, wm: wm})
}

func (s *timeStage[T]) run(in []Record[T]) (n int, err error) {
	s.i = 0
	k, sent := 0, 0
	out := s.out
	send := func() {
		if k > sent {
			s.stats.out.Add(int64(k - sent))
			s.next.push(out[sent:k])
			sent = k
		}
	}
	defer func() {
		if p := recover(); p != nil {
			n, err = s.i, panicError(p)
			send()
		}
	}()
	bound, every := Timestamp(s.set.Bound), Timestamp(s.set.Every)
	for s.i = 0; s.i < len(in); s.i++ {
		r := &in[s.i]
		at := s.at(r.Value)
		ts, ref := Timestamp(at.UnixNano()), r.Time
		if sec := at.Unix(); sec < firstSecond || sec > lastSecond {
			if err := s.refuse(r, TimestampOf(at), "its time is missing or outside the years 1678 to 2261"); err != nil {
				send()
				return s.i, err
			}
			continue
		}
		seen := ts
		if ref != None {
			if d := s.set.MaxFutureSkew; d >= 0 && ts > ref.Add(d) {
				if err := s.refuse(r, ts, "its time is more than the allowed skew ahead of the reference time"); err != nil {
					send()
					return s.i, err
				}
				continue
			}
			if d := s.set.MaxAhead; d >= 0 {
				seen = min(seen, ref.Add(d))
			}
		}
		o := &out[k]
		o.Value, o.Time, o.Meta = r.Value, ts, r.Meta
		k++
		if k == len(out) {
			send()
			k, sent = 0, 0
		}
		if s.punctuation != nil {
			s.top = max(s.top, seen)
			if at, ok := s.punctuation(r.Value); ok {
				wm := TimestampOf(at)
				if d := s.set.MaxAhead; d >= 0 && ref != None {
					wm = min(wm, ref.Add(d))
				}
				send()
				s.rise(wm)
			}
			continue
		}
		if seen <= s.top {
			continue
		}
		s.top = seen
		wm := seen - bound - 1
		if wm > seen { // wrapped
			wm = None + 1
		}
		if every > 0 {
			c := floorDiv(wm, every)
			if c == s.cell && s.marked != None {
				continue
			}
			s.cell = c
		}
		send()
		s.rise(wm)
	}
	send()
	return len(in), nil
}

// The years that int64 nanoseconds hold whole: 1678 to 2261.
const (
	firstSecond = -9214560000
	lastSecond  = 9214646399
)

func floorDiv(a, b Timestamp) Timestamp {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// refuse sends a record to the bad-clock output, or returns the error that sends it to the dead letters.
func (s *timeStage[T]) refuse(r *Record[T], ts Timestamp, reason string) error {
	s.count("bad_clock", 1)
	if !s.side.Used() {
		return fmt.Errorf("bad clock: %s (%v); connect BadClock() to keep such records", reason, ts)
	}
	*s.bad.Next(ts, r.Meta) = Late[T]{r.Value, ts, reason}
	return nil
}

func (s *timeStage[T]) mark(m mark) {
	switch m.kind {
	case markSilent:
		silent := time.Duration(m.wm)
		idle := s.set.IdleAfter > 0 && silent >= s.set.IdleAfter
		if d := s.set.CloseIdleAfter; d > 0 && silent >= d && s.top != None {
			if wm := s.top.Add(silent).Add(-s.set.Bound) - 1; wm > s.marked {
				s.active() // an idle partition's watermark does not count
				s.rise(wm)
			}
		}
		if idle && !s.idle {
			s.idle = true
			s.publish()
			s.next.mark(mark{kind: markIdle})
		}
	case markWatermark: // the end of a bounded stream
		if m.wm == EndOfTime {
			s.active()
			s.marked = m.wm
			s.publish()
			s.next.mark(m)
		}
	}
}

// The clock of a partition is stored with its position: behind a replay the same marks come again.

func (s *timeStage[T]) clockKey() []byte {
	b := nodePrefix(s.t.u.nodeID(s.node), spaceKeys)
	return append(b, s.t.id...)
}

func (s *timeStage[T]) collectClock(w *changes) {
	w.begin(s.clockKey())
	w.value()
	for _, t := range []Timestamp{s.top, s.marked, s.cell} {
		w.appendUint64(uint64(t))
	}
	w.put()
}

func (s *timeStage[T]) restoreClock() error {
	b, ok, err := s.t.u.db.Get(s.clockKey())
	if err != nil || !ok {
		return err
	}
	if len(b) != 24 {
		return fmt.Errorf("node %q: %w", s.node, errCorrupt)
	}
	s.top, s.marked, s.cell = Timestamp(binary.BigEndian.Uint64(b)), Timestamp(binary.BigEndian.Uint64(b[8:])), Timestamp(binary.BigEndian.Uint64(b[16:]))
	s.publish()
	return nil
}

// announce sends the restored watermark again, so that everything downstream stands where it stood.
func (s *timeStage[T]) announce() {
	if s.marked != None {
		s.next.mark(mark{kind: markWatermark, wm: s.marked})
	}
}
