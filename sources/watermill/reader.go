package watermill

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
)

// reader turns the messages of one inbox into records.
type reader[T any] struct {
	hub    *hub
	box    *inbox
	decode func(*message.Message) (T, error)

	held []arrival
	from int64 // number of the first of held
}

// What the engine was told last about idleness.
const (
	unknown = iota
	idle
	busy
)

// run hands over batches of what is there until ctx ends.
func (r *reader[T]) run(ctx context.Context, from flow.Position, in *flow.Intake[T]) error {
	r.box.begin(from.Offset)
	window, told := 0, unknown
	for {
		var peak int
		r.held, r.from, peak = r.box.take(r.held[:0], flow.MaxBatch)
		if w := r.hub.window(peak); w != window {
			window = w
			in.Window(w)
		}
		if len(r.held) > 0 {
			r.hub.rt.Count("received", int64(len(r.held)))
			batch := in.Buffer()
			for i := 0; i < len(r.held); {
				batch, i = r.records(batch, i, in)
			}
			if err := in.Emit(ctx, batch, r.position(len(r.held)-1)); err != nil {
				return err
			}
			clear(r.held)
			told = unknown // an Emit ends idleness
			continue
		}
		state := busy
		if r.hub.quiet() && r.box.empty() {
			state = idle
		}
		if state != told {
			told = state
			if state == idle {
				in.Idle()
			} else {
				in.Busy()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.box.ready:
		}
	}
}

func (r *reader[T]) position(i int) flow.Position { return flow.Position{Offset: r.from + int64(i)} }

// records appends the records of r.held from i on, and returns early, behind the message, when decode panics.
func (r *reader[T]) records(batch []flow.Record[T], i int, in *flow.Intake[T]) (out []flow.Record[T], next int) {
	cfg := &r.hub.cfg
	good := len(batch)
	defer func() {
		if p := recover(); p != nil {
			r.reject(in, i, fmt.Errorf("%w: %v\n%s", flow.ErrPanic, p, debug.Stack()))
			clear(batch[good:])
			out, next = batch[:good], i+1
		}
	}()
	for ; i < len(r.held); i++ {
		m := &r.held[i]
		good = len(batch)
		if cfg.storedAt != nil {
			if at := cfg.storedAt(m.msg); !at.IsZero() {
				m.at = at
			}
		}
		v, err := r.decode(m.msg)
		if err != nil {
			r.reject(in, i, err)
			continue
		}
		rec := flow.Record[T]{Value: v, Time: flow.TimestampOf(m.at)}
		if cfg.meta {
			rec.Meta = &flow.Meta{Headers: m.msg.Metadata, Key: r.hub.topic, Partition: r.box.id, Position: r.position(i)}
		}
		batch = append(batch, rec)
	}
	return batch, i
}

func (r *reader[T]) reject(in *flow.Intake[T], i int, err error) {
	m := r.held[i]
	in.Reference(m.at)
	in.Reject(m.msg.Payload, fmt.Errorf("watermill source: decode message %q of topic %q: %w", m.msg.UUID, r.hub.topic, err), r.position(i))
}
