package watermill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
)

// deliver publishes what is not published yet, in as many lanes as are allowed, and returns when all lanes have ended or ctx has.
func (o *out) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	own := make([]*block, len(blocks))
	lanes := make([][]*row, o.cfg.parallel)
	for i, b := range blocks {
		own[i] = b.(*block)
		for j := range own[i].rows {
			r := &own[i].rows[j]
			if r.state == waiting || r.state == alone {
				l := r.lane % uint64(o.cfg.parallel)
				lanes[l] = append(lanes[l], r)
			}
		}
	}
	errs := make(chan error, len(lanes))
	for _, rows := range lanes {
		o.lanes.Add(1)
		go func() {
			defer o.lanes.Done()
			errs <- o.publish(ctx, rows)
		}()
	}
	var failed error
	for range lanes {
		select {
		case err := <-errs:
			// A permanent error ends the topology, so it is the one to tell.
			if failed == nil || err != nil && !flow.IsTransient(err) {
				failed = err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("watermill sink: given up while the publisher works: %w", ctx.Err())
		}
	}
	if failed != nil {
		return nil, failed
	}
	return rejects(own), nil
}

// rejects are returned once, with the Deliver that succeeds.
func rejects(blocks []*block) (rs []flow.Reject) {
	for i, b := range blocks {
		for j := range b.rows {
			if r := &b.rows[j]; r.state == refused {
				rs = append(rs, flow.Reject{Block: i, Row: j, Err: r.err, Record: r.readable(), Time: r.time})
			}
		}
	}
	return rs
}

// readable is the message as JSON.
func (r *row) readable() []byte {
	b, err := json.Marshal(struct {
		Topic    string            `json:"topic"`
		UUID     string            `json:"uuid"`
		Metadata map[string]string `json:"metadata,omitempty"`
		Payload  []byte            `json:"payload"`
	}{r.topic, r.id, r.metadata, r.payload})
	if err != nil {
		return r.payload // strings and bytes always have JSON
	}
	return b
}

// publish publishes the rows of one lane in their order.
func (o *out) publish(ctx context.Context, rows []*row) error {
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 1
		if rows[0].state == waiting {
			for n < len(rows) && n < o.cfg.batch && rows[n].state == waiting && rows[n].topic == rows[0].topic {
				n++
			}
		} else {
			o.rt.Count("repeated", 1)
		}
		call := rows[:n]
		err := o.call(call)
		switch {
		case err == nil:
			o.rt.Count("published", int64(n))
			for _, r := range call {
				r.state = published
			}
			rows = rows[n:]
		case errors.Is(err, flow.ErrPanic):
			return err
		case o.cfg.permanent == nil || !o.cfg.permanent(err):
			for _, r := range call {
				r.state = alone
			}
			return flow.Transient(fmt.Errorf("watermill sink: publish %d messages to %q: %w", n, call[0].topic, err))
		case n > 1: // which of them it was shows one by one
			for _, r := range call {
				r.state = alone
			}
		default:
			call[0].state, call[0].err = refused, fmt.Errorf("watermill sink: publish to %q: %w", call[0].topic, err)
			rows = rows[1:]
		}
	}
	return nil
}

func (o *out) call(rows []*row) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("watermill sink: the publisher: %w: %v\n%s", flow.ErrPanic, p, debug.Stack())
		}
	}()
	ms := make([]*message.Message, len(rows))
	for i, r := range rows {
		ms[i] = r.message()
	}
	return o.pub.Publish(rows[0].topic, ms...)
}
