package mqtt

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// reader turns the messages of one inbox into records.
type reader[T any] struct {
	id    string
	codec codec.Codec[T]
	meta  bool
	count func(name string, n int64)
	inbox *inbox

	last int64      // the highest number given
	held []*message // taken and not yet accepted by the engine
	// skipped: the batch at hand has messages that nobody wants.
	skipped bool
}

// run hands over batches of what is there until ctx ends.
func (r *reader[T]) run(ctx context.Context, from flow.Position, in *flow.Intake[T]) error {
	r.last = max(r.last, from.Offset)
	window, told := 0, unknown
	for {
		if len(r.held) == 0 {
			r.held = r.inbox.take(r.held, r.last, flow.MaxBatch)
			if n := len(r.held); n > 0 {
				r.last = r.held[n-1].seq
				r.count("received", int64(n))
			}
		}
		st := r.inbox.status()
		r.report(st.counts)
		if st.window != window {
			window = st.window
			in.Window(window)
		}
		if len(r.held) > 0 {
			if err := r.emit(ctx, in); err != nil {
				return err
			}
			told = unknown // an Emit ends idleness
			continue
		}
		if now := stateOf(st.idle); now != told {
			told = now
			if st.idle {
				in.Idle()
			} else {
				in.Busy()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.inbox.ready:
		}
	}
}

// emit hands over r.held; on an error they stay held, for a next call of Read.
func (r *reader[T]) emit(ctx context.Context, in *flow.Intake[T]) error {
	batch := in.Buffer()
	r.skipped = false
	for i := 0; i < len(r.held); {
		batch, i = r.decode(batch, i, in)
	}
	if err := in.Emit(ctx, batch, flow.Position{Offset: r.held[len(r.held)-1].seq}); err != nil {
		return err
	}
	clear(r.held)
	r.held = r.held[:0]
	if r.skipped {
		r.inbox.ack(0)
	}
	return nil
}

// decode appends the records of r.held from i on, and returns early, behind the message, when the codec panics.
func (r *reader[T]) decode(batch []flow.Record[T], i int, in *flow.Intake[T]) (out []flow.Record[T], next int) {
	good := len(batch)
	defer func() {
		if p := recover(); p != nil {
			m := r.held[i]
			in.Reference(m.at.Time())
			in.Reject(m.payload, fmt.Errorf("mqtt source: decode message of topic %q: %w: %v\n%s", m.topic, flow.ErrPanic, p, debug.Stack()), flow.Position{Offset: m.seq})
			clear(batch[good:])
			out, next = batch[:good], i+1
		}
	}()
	var zero T
	for ; i < len(r.held); i++ {
		m := r.held[i]
		if m.skip {
			r.skipped = true
			continue
		}
		good = len(batch)
		batch = append(batch, flow.Record[T]{Time: m.at})
		rec := &batch[good]
		if err := r.codec.Decode(m.payload, &rec.Value); err != nil {
			rec.Value = zero
			batch = batch[:good]
			in.Reference(m.at.Time())
			in.Reject(m.payload, fmt.Errorf("mqtt source: decode message of topic %q: %w", m.topic, err), flow.Position{Offset: m.seq})
			continue
		}
		if r.meta {
			rec.Meta = &flow.Meta{Headers: m.headers, Key: m.topic, Partition: r.id, Position: flow.Position{Offset: m.seq}}
		}
	}
	return batch, i
}

func (r *reader[T]) report(c counts) {
	for _, n := range [...]struct {
		name string
		n    int64
	}{{"redelivered", c.redelivered}, {"retained_dropped", c.retained}, {"dropped_by_pause", c.paused}} {
		if n.n > 0 {
			r.count(n.name, n.n)
		}
	}
}

// What the engine was told last about idleness.
const (
	unknown = iota
	idle
	busy
)

func stateOf(isIdle bool) int {
	if isIdle {
		return idle
	}
	return busy
}
