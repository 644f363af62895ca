package flowtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// memorySource reads a memory. With a quirk it breaks one promise.
type memorySource struct {
	m     *memory
	mode  flow.Replay
	wrong bool
	quirk string

	rt   flow.SourceRuntime
	stop chan struct{}

	mu     sync.Mutex
	lost   map[int]bool // partitions that are not ours any more
	closed bool
}

func newMemorySource(m *memory, mode flow.Replay, quirk string) *memorySource {
	return &memorySource{m: m, mode: mode, quirk: quirk, stop: make(chan struct{}), lost: map[int]bool{}}
}

func (s *memorySource) Replay() flow.Replay { return s.mode }

func (s *memorySource) Open(ctx context.Context, rt flow.SourceRuntime) error {
	switch {
	case s.wrong && s.quirk == "wrong is transient":
		return flow.Transient(errors.New("the topic is empty"))
	case s.wrong && s.quirk == "wrong without a word":
		return errors.New("it does not work")
	case s.wrong && s.quirk != "wrong is accepted":
		return errors.New("the topic is empty")
	}
	s.rt = rt
	if s.quirk == "open connects" && !s.wrong {
		for {
			c := s.m.changed.wait()
			if _, err := s.m.connect(); err == nil {
				break
			}
			select {
			case <-c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if s.quirk == "leaks" {
		go func() { <-s.m.ended }()
	}
	return nil
}

func (s *memorySource) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.quirk == "closes once" {
		return errors.New("closed already")
	}
	s.closed = true
	if s.quirk == "close hangs" {
		<-s.m.ended
	}
	s.leave() // and no earlier: the last commits come when Run has returned
	return nil
}

func (s *memorySource) Run(ctx context.Context, a flow.Assign) error {
	s.m.set(func() {
		if !slices.Contains(s.m.members, s) {
			s.m.members = append(s.m.members, s)
		}
	})
	if s.quirk == "leaves the group too early" {
		defer s.leave()
	}
	mine := map[int]bool{}
	for {
		c := s.m.changed.wait()
		if _, err := s.m.connect(); err != nil && len(mine) == 0 {
			switch s.quirk {
			case "run fails for good":
				return errors.New("cannot connect")
			case "run gives up":
				<-ctx.Done()
				return nil
			}
			if e := flow.SystemClock().Sleep(ctx, time.Millisecond); e != nil {
				return nil
			}
			return err
		}
		gone, fresh := s.assigned(mine)
		if len(gone) > 0 && s.quirk == "gives away before remove" {
			s.release(gone)
		}
		for _, i := range gone {
			if err := a.Remove(ctx, flow.Partition{ID: strconv.Itoa(i)}); err != nil {
				return nil
			}
			delete(mine, i)
		}
		s.release(gone)
		var parts []flow.Partition
		for _, i := range fresh {
			mine[i] = true
			s.m.mu.Lock()
			parts = append(parts, flow.Partition{ID: strconv.Itoa(i), Committed: flow.Position{Offset: int64(s.m.parts[i].acked)}})
			s.m.mu.Unlock()
		}
		if s.mode == flow.Redeliver {
			for i := range parts {
				parts[i].Committed = flow.Position{}
			}
		}
		if len(parts) > 0 {
			if err := a.Add(parts...); err != nil {
				return err
			}
		}
		select {
		case <-c:
		case <-ctx.Done():
			if s.quirk == "run returns the context's error" {
				return ctx.Err()
			}
			return nil
		}
	}
}

// leave gives all partitions back.
func (s *memorySource) leave() {
	s.m.set(func() {
		s.m.members = slices.DeleteFunc(s.m.members, func(o *memorySource) bool { return o == s })
		for i := range s.m.parts {
			if s.m.parts[i].owner == s {
				s.m.parts[i].owner = nil
			}
		}
	})
}

// assigned says which partitions are to go and which are to come: they are dealt out to the members in turn.
func (s *memorySource) assigned(mine map[int]bool) (gone, fresh []int) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for i := range s.m.parts {
		should := s.m.members[i%len(s.m.members)] == s
		switch p := &s.m.parts[i]; {
		case !should && mine[i]:
			gone = append(gone, i)
		case should && !mine[i] && (p.owner == nil || p.owner == s):
			p.owner = s
			fresh = append(fresh, i)
		}
	}
	return gone, fresh
}

func (s *memorySource) release(parts []int) {
	if len(parts) == 0 {
		return
	}
	s.m.set(func() {
		for _, i := range parts {
			if s.m.parts[i].owner == s {
				s.m.parts[i].owner = nil
			}
		}
	})
}

func (s *memorySource) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[int]) error {
	n, err := strconv.Atoi(p.ID)
	if err != nil {
		return err
	}
	era, err := s.m.connect()
	if err != nil {
		in.Busy()
		return s.broken(ctx, in, err)
	}
	at := int(from.Offset)
	if s.mode == flow.Redeliver || s.quirk == "ignores its position" && from.Offset > 0 {
		s.m.mu.Lock()
		at = s.m.parts[n].acked
		s.m.mu.Unlock()
	}
	if s.quirk == "ignores its position" && from.Offset > 0 {
		at = max(0, at-3)
	}
	r := &memoryReader{s: s, part: n, in: in}
	if s.quirk == "reads ahead" {
		return r.ahead(ctx, at)
	}
	for {
		c := s.m.changed.wait()
		var got []string
		lag := 0
		err := s.m.request(ctx, era, func() {
			log := s.m.parts[n].log
			got = slices.Clone(log[min(at, len(log)):min(len(log), at+flow.MaxBatch)])
			lag = len(log) - at - len(got)
		})
		if err != nil {
			if ctx.Err() != nil && s.quirk == "ignores the end" {
				<-s.m.ended
			}
			return s.broken(ctx, in, err)
		}
		if len(got) > 0 {
			if err := r.emit(ctx, got, at); err != nil {
				return err
			}
			at += len(got)
		}
		if s.quirk == "lag stays" {
			lag++
		}
		in.Lag(int64(lag))
		if lag > 0 && s.quirk != "lag stays" {
			continue
		}
		in.Idle()
		for waiting := true; waiting; {
			select {
			case <-c:
				waiting = false
			case <-ctx.Done():
				if s.quirk == "ignores the end" {
					<-s.m.ended
				}
				return ctx.Err()
			}
		}
	}
}

// broken is the end of a connection.
func (s *memorySource) broken(ctx context.Context, in *flow.Intake[int], err error) error {
	if ctx.Err() != nil {
		return err
	}
	switch s.quirk {
	case "idle without a connection":
		in.Idle()
		return err
	case "read fails for good":
		return errors.New("the connection is lost")
	case "read gives up":
		<-ctx.Done()
		return ctx.Err()
	}
	in.Busy()
	return err
}

// memoryReader makes batches.
type memoryReader struct {
	s    *memorySource
	part int
	in   *flow.Intake[int]
	held []flow.Record[int]
	n    int
}

func (r *memoryReader) emit(ctx context.Context, payloads []string, at int) error {
	quirk := r.s.quirk
	r.n++
	batch := r.in.Buffer()
	if quirk == "writes into its last batch" && len(r.held) > 0 {
		r.held[0].Value = -1
	}
	for i, text := range payloads {
		var v int
		if _, err := fmt.Sscanf(text, "%d", &v); err != nil {
			behind := flow.Position{Offset: int64(at + i + 1)}
			switch quirk {
			case "poison stops it":
				return fmt.Errorf("cannot decode %q", text)
			case "poison vanishes":
			case "poison without its bytes":
				r.in.Reject([]byte("?"), err, behind)
			case "poison without a cause":
				r.in.Reject([]byte(text), nil, behind)
			case "poison without a position":
				r.in.Reject([]byte(text), err, flow.Position{})
			case "poison takes its batch along":
				r.in.Reject([]byte(text), err, behind)
				return r.in.Emit(ctx, batch[:0], flow.Position{Offset: int64(at + len(payloads))})
			default:
				r.in.Reject([]byte(text), err, behind)
			}
			continue
		}
		batch = append(batch, flow.Record[int]{Value: v, Time: flow.None})
	}
	if quirk == "poison is not covered" && len(batch) == 0 {
		return nil
	}
	upTo := flow.Position{Offset: int64(at + len(payloads))}
	switch {
	case quirk == "swaps records" && len(batch) > 1:
		batch[0], batch[1] = batch[1], batch[0]
	case quirk == "loses a record" && len(batch) > 1:
		batch = batch[:len(batch)-1]
	case quirk == "positions stand still" && r.n > 1:
		upTo.Offset = int64(at)
	case quirk == "position is zero":
		upTo = flow.Position{}
	case quirk == "batch is too big":
		for len(batch) <= flow.MaxBatch {
			batch = append(batch, batch[0])
		}
	case quirk == "loses what nobody takes":
		soon, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if err := r.in.Emit(soon, batch, upTo); err != nil && ctx.Err() != nil {
			return err
		}
		return nil
	case quirk == "idle while blocked":
		go func() {
			for range 5 {
				_ = flow.SystemClock().Sleep(context.Background(), 5*time.Millisecond)
				r.in.Idle()
			}
		}()
	case quirk == "acks what it emits":
		r.s.m.set(func() { r.s.m.parts[r.part].acked = int(upTo.Offset) })
	}
	if quirk == "ignores the end" {
		ctx = context.WithoutCancel(ctx)
	}
	if err := r.in.Emit(ctx, batch, upTo); err != nil {
		return err
	}
	r.held = batch
	if quirk == "emits twice" {
		return r.in.Emit(ctx, slices.Clone(batch), flow.Position{Offset: upTo.Offset, Token: "again"})
	}
	return nil
}

// ahead reads everything there is, whether or not somebody takes it.
func (r *memoryReader) ahead(ctx context.Context, at int) error {
	in := make(chan string, 1<<20)
	go func() {
		for next := at; ; {
			c := r.s.m.changed.wait()
			r.s.m.mu.Lock()
			for _, text := range r.s.m.parts[r.part].log[next:] {
				in <- text + " " + string(make([]byte, r.s.m.pad))
				next++
			}
			r.s.m.mu.Unlock()
			select {
			case <-c:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case text := <-in:
			if err := r.emit(ctx, []string{text}, at); err != nil {
				return err
			}
			at++
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *memorySource) Commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	n, err := strconv.Atoi(p.ID)
	if err != nil || s.quirk == "commits nothing" {
		return err
	}
	era, err := s.m.connect()
	if err != nil {
		switch s.quirk {
		case "forgets commits":
			return nil
		case "commit fails for good":
			return errors.New("cannot commit")
		}
		return err
	}
	return s.m.request(ctx, era, func() {
		part := &s.m.parts[n]
		part.acked = max(part.acked, int(upTo.Offset))
		if s.quirk == "acks more than it was told" {
			part.acked = len(part.log)
		}
	})
}
