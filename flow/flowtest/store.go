// Package flowtest runs topologies deterministically: scripted sources, a virtual clock, epochs step by step, crashes and restores,
// collected outputs.
package flowtest

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/millrace-stream/millrace/flow/state"
)

// Store is a state.Store in memory that is durable across crashes of the topology: what was committed is there when it is opened
// again. It counts what was written.
type Store struct {
	mu   sync.Mutex
	data map[string]map[string][]byte
	open map[string]bool
	// Fail, when set, is called at each commit; its error is the commit's.
	Fail func() error
	// Puts and Bytes count what commits wrote.
	Puts, Bytes int
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{data: map[string]map[string][]byte{}, open: map[string]bool{}} }

// Durable is true: that is the point.
func (s *Store) Durable() bool { return true }

// Open opens a topology's database.
func (s *Store) Open(topology string) (state.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[topology] {
		return nil, fmt.Errorf("%w: by this process (pid %d)", state.ErrLocked, os.Getpid())
	}
	s.open[topology] = true
	if s.data[topology] == nil {
		s.data[topology] = map[string][]byte{}
	}
	return &db{s, topology}, nil
}

type db struct {
	s    *Store
	name string
}

func (d *db) Get(key []byte) ([]byte, bool, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	v, ok := d.s.data[d.name][string(key)]
	return slices.Clone(v), ok, nil
}

func (d *db) Scan(lo, hi []byte, f func(key, value []byte) error) error {
	type pair struct {
		k string
		v []byte
	}
	var all []pair
	d.s.mu.Lock()
	for k, v := range d.s.data[d.name] {
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			all = append(all, pair{k, v})
		}
	}
	d.s.mu.Unlock()
	sort.Slice(all, func(i, j int) bool { return all[i].k < all[j].k })
	for _, e := range all {
		if err := f([]byte(e.k), slices.Clone(e.v)); err != nil {
			return err
		}
	}
	return nil
}

func (d *db) NewBatch() state.Batch { return &batch{d: d} }

func (d *db) Close() error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.open[d.name] = false
	return nil
}

type batch struct {
	d   *db
	ops []func(m map[string][]byte)
	n   int
}

func (b *batch) Put(key, value []byte) {
	k, v := string(key), slices.Clone(value)
	b.n += len(k) + len(v)
	b.ops = append(b.ops, func(m map[string][]byte) { m[k] = v })
}

func (b *batch) Delete(key []byte) {
	k := string(key)
	b.ops = append(b.ops, func(m map[string][]byte) { delete(m, k) })
}

func (b *batch) DeleteRange(lo, hi []byte) {
	l, h := string(lo), string(hi)
	b.ops = append(b.ops, func(m map[string][]byte) {
		for k := range m {
			if k >= l && k < h {
				delete(m, k)
			}
		}
	})
}

func (b *batch) Commit() error {
	s := b.d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return err
		}
	}
	for _, op := range b.ops {
		op(s.data[b.d.name])
	}
	s.Puts += len(b.ops)
	s.Bytes += b.n
	return nil
}

func (b *batch) Close() error { return nil }
