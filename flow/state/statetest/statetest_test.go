package statetest_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/statetest"
)

// TestSuiteAcceptsAPlainMap shows that the suite asks no more than the contract.
func TestSuiteAcceptsAPlainMap(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(*testing.T) state.Store { return &mapStore{open: map[string]*mapDB{}} })
}

type mapStore struct {
	mu   sync.Mutex
	open map[string]*mapDB
}

func (s *mapStore) Durable() bool { return true }

func (s *mapStore) Open(topology string) (state.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.open[topology]
	if db == nil {
		db = &mapDB{m: map[string][]byte{}}
		s.open[topology] = db
	}
	if db.held {
		return nil, state.ErrLocked
	}
	db.held = true
	return &mapHandle{mapDB: db}, nil
}

type mapDB struct {
	mu   sync.RWMutex
	m    map[string][]byte
	held bool
}

type mapHandle struct {
	*mapDB
	once sync.Once
}

func (h *mapHandle) Close() error {
	h.once.Do(func() { h.held = false })
	return nil
}

func (d *mapDB) Get(key []byte) ([]byte, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok := d.m[string(key)]
	return bytes.Clone(v), ok, nil
}

func (d *mapDB) Scan(lo, hi []byte, f func(key, value []byte) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, k := range slices.Sorted(maps.Keys(d.m)) {
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			if err := f([]byte(k), d.m[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *mapDB) NewBatch() state.Batch { return &mapBatch{d: d} }

type mapBatch struct {
	d    *mapDB
	ops  []func(map[string][]byte)
	done bool
}

func (b *mapBatch) Put(key, value []byte) {
	k, v := string(key), bytes.Clone(value)
	b.ops = append(b.ops, func(m map[string][]byte) { m[k] = v })
}

func (b *mapBatch) Delete(key []byte) {
	k := string(key)
	b.ops = append(b.ops, func(m map[string][]byte) { delete(m, k) })
}

func (b *mapBatch) DeleteRange(lo, hi []byte) {
	l, h := string(lo), string(hi)
	b.ops = append(b.ops, func(m map[string][]byte) {
		maps.DeleteFunc(m, func(k string, _ []byte) bool { return k >= l && k < h })
	})
}

func (b *mapBatch) Commit() error {
	if b.done {
		return errors.New("committed already")
	}
	b.done = true
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	for _, op := range b.ops {
		op(b.d.m)
	}
	return nil
}

func (b *mapBatch) Close() error { return nil }
