package flowtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// memory is a system in memory with a network that can break: logs, one per partition, with a committed offset for each, which
// a source reads; and a store of rows, which a sink writes.
type memory struct {
	changed notice
	ended   chan struct{} // the test is over: nothing waits any more

	mu        sync.Mutex
	cut       bool // no connections
	stalled   bool // nothing goes in any direction
	answers   bool // answers vanish
	resets    bool // each request breaks its connection
	delay     time.Duration
	pad       int // bytes that come with each record
	era       int // connections of an earlier era are broken
	parts     []memoryPart
	members   []*memorySource
	rows      []int
	committed map[string]bool // tokens of blocks
}

type memoryPart struct {
	log   []string
	acked int
	owner *memorySource
}

func newMemory(t testing.TB, partitions int) *memory {
	m := &memory{parts: make([]memoryPart, partitions), committed: map[string]bool{}, ended: make(chan struct{})}
	t.Cleanup(func() { close(m.ended) })
	return m
}

func (m *memory) set(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	m.changed.tell()
}

func (m *memory) Cut() {
	m.set(func() { m.cut, m.stalled, m.answers, m.resets = true, false, false, false; m.era++ })
}
func (m *memory) Reset()       { m.set(func() { m.resets = true; m.era++ }) }
func (m *memory) HalfOpen()    { m.set(func() { m.stalled = true }) }
func (m *memory) DropAnswers() { m.set(func() { m.answers = true }) }
func (m *memory) Slow()        { m.set(func() { m.delay = 10 * time.Millisecond }) }
func (m *memory) Restore() {
	m.set(func() { m.cut, m.stalled, m.answers, m.resets, m.delay = false, false, false, false, 0; m.era++ })
}

// publish puts payloads on the partitions in turn.
func (m *memory) publish(payloads ...string) {
	m.set(func() {
		for _, p := range payloads {
			n := 0
			for i := range m.parts {
				n += len(m.parts[i].log)
			}
			part := &m.parts[n%len(m.parts)]
			part.log = append(part.log, p)
		}
	})
}

var errNetwork = flow.Transient(errors.New("the connection is lost"))

// request does f on the system, over a connection of an era: after whatever the network makes of it.
func (m *memory) request(ctx context.Context, era int, f func()) error {
	done := false
	for {
		c := m.changed.wait()
		m.mu.Lock()
		if m.cut || m.resets || m.era != era {
			m.mu.Unlock()
			return errNetwork
		}
		delay := m.delay
		if !m.stalled && !done {
			f()
			done = true
		}
		if done && !m.answers && !m.stalled {
			m.mu.Unlock()
			return flow.SystemClock().Sleep(ctx, delay)
		}
		m.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ended:
			return errNetwork
		}
	}
}

// connect gives the era of a new connection.
func (m *memory) connect() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut {
		return 0, errNetwork
	}
	return m.era, nil
}
