package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// insert is what goes to the server at once: a block, or several merged ones. It keeps its rows and their order until they are
// delivered, so that an attempt under the same token always sends the same bytes.
type insert struct {
	segments []segment
	names    []string
	cols     []column
	set      *buffers // of the merged columns; nil when cols are a block's own
	// parts are the ranges of rows that are still to be delivered: the whole insert, or its pieces after a refusal. The last is next.
	parts              []*part
	accepted, refusals int
	probing            bool
	wanted             bool // by the current call
}

// segment is where a block's rows stand in an insert.
type segment struct {
	b    *block
	from int
}

// part is a range of an insert's rows under one token.
type part struct {
	from, to int
	token    string
	tries    int
	// queryID and addr are those of the last attempt; unknown says that nobody knows how it ended.
	queryID, addr string
	unknown       bool
}

// Deliver sends the blocks, merged up to MaxRows and MaxBytes, and returns the rows that the server refused for good.
func (s *sink[T, R]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	return s.deliver(ctx, blocks)
}

func (s *core) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	s.delivering.Lock() // units that share the sink take turns
	defer s.delivering.Unlock()
	if err := s.plan(blocks); err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	var rejects []flow.Reject
	for i, fb := range blocks {
		for _, r := range fb.(*block).rejects {
			r.Block = i
			rejects = append(rejects, r)
		}
	}
	return rejects, nil
}

// maxWaiting bounds the inserts that failed in earlier calls and that the current one does not ask for.
const maxWaiting = 64

// plan makes inserts of the blocks that are in none yet. Inserts of an earlier call stay as they are, and are delivered when their
// blocks are asked for again.
func (s *core) plan(blocks []flow.Block) error {
	asked := make(map[*block]bool, len(blocks))
	for _, fb := range blocks {
		b, ok := fb.(*block)
		if !ok {
			return fmt.Errorf("clickhouse sink got a block of type %T", fb)
		}
		asked[b] = true
	}
	waiting := 0
	for _, in := range s.pending {
		in.wanted = false
		for _, seg := range in.segments {
			in.wanted = in.wanted || asked[seg.b]
		}
		if !in.wanted {
			waiting++
		}
	}
	s.pending = slices.DeleteFunc(s.pending, func(in *insert) bool {
		if in.wanted || waiting <= maxWaiting {
			return false
		}
		waiting--
		for _, seg := range in.segments { // given up by the engine; should a block come back it is a new insert
			seg.b.planned = false
		}
		return true
	})
	var group []*block
	rows, bytes, schema := 0, 0, ""
	flush := func() error {
		if len(group) == 0 {
			return nil
		}
		in, err := s.merge(group)
		if err != nil {
			return err
		}
		s.pending = append(s.pending, in)
		group, rows, bytes = nil, 0, 0
		return nil
	}
	for _, fb := range blocks {
		b := fb.(*block)
		if b.done || b.planned {
			continue
		}
		b.planned, b.left = true, b.rows
		if len(group) > 0 && (b.alone || group[0].alone || rows+b.rows > s.maxRows || bytes+b.bytes > s.maxBytes || b.schema() != schema) {
			if err := flush(); err != nil {
				return err
			}
		}
		group, rows, bytes, schema = append(group, b), rows+b.rows, bytes+b.bytes, b.schema()
	}
	return flush()
}

// merge makes one insert of blocks of the same columns.
func (s *core) merge(group []*block) (*insert, error) {
	first := group[0]
	in := &insert{names: first.names, wanted: true}
	if len(group) == 1 {
		in.cols = first.cols
		in.segments = []segment{{first, 0}}
		in.parts = []*part{{to: first.rows, token: first.token}}
		return in, nil
	}
	if first.set != nil { // the sink's own columns
		set, err := s.takeBuffers()
		if err != nil {
			return nil, err
		}
		in.set, in.cols = set, set.cols
	} else {
		for _, c := range first.cols {
			fresh, err := newColumn(string(c.Type()))
			if err != nil {
				return nil, err
			}
			in.cols = append(in.cols, fresh)
		}
	}
	rows := 0
	for _, b := range group {
		in.segments = append(in.segments, segment{b, rows})
		for i, c := range in.cols {
			c.AppendRows(b.cols[i], 0, b.rows)
		}
		rows += b.rows
	}
	in.parts = []*part{{to: rows, token: s.token()}}
	return in, nil
}

// run works on the pending inserts, several at a time, and stops handing out after the first error.
func (s *core) run(ctx context.Context) error {
	var (
		mu     sync.Mutex
		next   int
		errs   []error
		wg     sync.WaitGroup
		todo   = make([]*insert, 0, len(s.pending))
		finish = make(map[*insert]bool, len(s.pending))
	)
	for _, in := range s.pending {
		if in.wanted {
			todo = append(todo, in)
		}
	}
	for range min(s.conn.cfg.MaxInFlight, len(todo)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if next == len(todo) || len(errs) > 0 {
					mu.Unlock()
					return
				}
				i := next
				next++
				mu.Unlock()
				err := s.insert(ctx, todo[i])
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				}
				finish[todo[i]] = err == nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.pending = slices.DeleteFunc(s.pending, func(in *insert) bool {
		if finish[in] {
			s.finish(in)
		}
		return finish[in]
	})
	for _, err := range errs {
		if !flow.IsTransient(err) {
			return err
		}
	}
	return errors.Join(errs...)
}

// finish frees what a delivered insert held.
func (s *core) finish(in *insert) {
	if in.set != nil {
		s.giveBuffers(in.set)
	}
	for _, seg := range in.segments {
		b := seg.b
		b.done = true
		if b.set != nil {
			b.set.times = b.times // as grown
			s.giveBuffers(b.set)
		}
		b.cols, b.times, b.set = nil, nil, nil
	}
	in.cols, in.set = nil, nil
}

// locate finds the block of an insert's row.
func (in *insert) locate(row int) (b *block, at int) {
	for _, seg := range in.segments {
		if row < seg.from+seg.b.rows {
			return seg.b, row - seg.from
		}
	}
	return nil, 0
}
