package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// slab is the memory of some records in flight. It is free when all of them are settled.
type slab struct {
	p       *producer
	b       *block
	recs    []kgo.Record
	rows    []int
	now     time.Time
	promise func(*kgo.Record, error)
}

func newSlab(p *producer, b *block, n int) *slab {
	s := &slab{p: p, b: b, recs: make([]kgo.Record, n), rows: make([]int, 0, n), now: p.rt.Clock.Now()}
	s.promise = s.settle
	return s
}

func (s *slab) full() bool { return len(s.rows) == len(s.recs) }

// add returns the next record, for a row of the block.
func (s *slab) add(row int) *kgo.Record {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.b.left++
	s.rows = append(s.rows, row)
	return &s.recs[len(s.rows)-1]
}

// settle takes the client's word on a record.
func (s *slab) settle(r *kgo.Record, err error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if err != nil {
		s.b.failed = append(s.b.failed, failure{s.row(r), err})
	}
	s.p.settled++
	if s.b.left--; s.b.left == 0 && s.b.fed {
		close(s.b.done)
	}
}

func (s *slab) row(r *kgo.Record) int {
	for i := range s.rows {
		if &s.recs[i] == r {
			return s.rows[i]
		}
	}
	panic("kafka sink: the client settled a record that is not its own")
}
