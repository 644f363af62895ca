package clickhouse

import (
	"context"
	"io"

	"github.com/millrace-stream/millrace/flow"
)

// Discard is Sink without a server: rows become columns, blocks and compressed inserts as for one, which are thrown away. It tells what
// encoding costs. The options and the compression of cfg count, its addresses do not; a block is an insert of its own.
func Discard[T, R any](cfg Config, row func(T) R, opts ...Option) flow.Sink[T] {
	return &discard[T, R]{sink[T, R]{core: newCore[R](New(cfg), "none", opts), row: row}}
}

type discard[T, R any] struct{ sink[T, R] }

// Open takes the runtime, and asks no server.
func (d *discard[T, R]) Open(_ context.Context, rt flow.SinkRuntime) error {
	if d.err != nil {
		return d.err
	}
	d.start(rt)
	return nil
}

// Deliver encodes the blocks.
func (d *discard[T, R]) Deliver(_ context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	d.delivering.Lock()
	defer d.delivering.Unlock()
	for _, fb := range blocks {
		b := fb.(*block)
		if err := d.encodeTo(io.Discard, b.cols, b.names, b.rows); err != nil {
			return nil, err
		}
		d.finish(&insert{segments: []segment{{b, 0}}})
	}
	return nil, nil
}
