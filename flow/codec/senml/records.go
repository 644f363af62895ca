package senml

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Records resolves packs and emits their records one by one, in order, with the Time and Meta of their pack. Put it right behind the
// source, and flow.AssignTime with Record.At behind it.
//
// Relative times count from the pack's own Time: when the broker stored it, or, where the broker does not say, when the source received
// it. So a replay from the broker's own store time resolves to the same. A pack that cannot be resolved is an error of this record as a
// whole; nothing of it is emitted.
func Records(s flow.Stream[Pack], name string, opts ...flow.NodeOption) flow.Stream[Record] {
	return flow.Apply[Pack, Record](s, name, func() flow.OperatorFunc[Pack, Record] { return emit }, opts...)
}

func emit(_ context.Context, r *flow.Record[Pack], out *flow.Output[Record]) error {
	records, err := Resolve(r.Value, r.Time.Time())
	if err != nil {
		return err
	}
	for i := range records {
		*out.Next(r.Time, r.Meta) = records[i]
	}
	return nil
}

// At is the record's time, for flow.AssignTime.
func (r Record) At() time.Time { return r.Time }
