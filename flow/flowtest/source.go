package flowtest

import (
	"context"
	"errors"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// Source is a scripted source. It plays the part of the broker too: what was fed stays, so that a topology which crashed and
// starts again with the same Source reads on from its last committed position.
type Source[T any] struct {
	// BatchSize cuts batches; 0 means all that is there, at most flow.MaxBatch.
	BatchSize int
	// Mode is what Replay returns.
	Mode flow.Replay
	// WindowSize is told to the engine as the unacked window.
	WindowSize int

	mu        sync.Mutex
	order     []string
	parts     map[string]*sourcePart[T]
	committed map[string]flow.Position
	changed   chan struct{}
	running   bool
}

type sourcePart[T any] struct {
	log     []flow.Record[T]
	rejects map[int]rejected
	emitted int
	ended   bool
	idle    bool
	told    bool // it has said that there is nothing
}

type rejected struct {
	raw string
	err error
}

// NewSource returns a source with these partitions; none means one, "0".
func NewSource[T any](partitions ...string) *Source[T] {
	if len(partitions) == 0 {
		partitions = []string{"0"}
	}
	s := &Source[T]{parts: map[string]*sourcePart[T]{}, committed: map[string]flow.Position{}, changed: make(chan struct{})}
	for _, p := range partitions {
		s.order = append(s.order, p)
		s.parts[p] = &sourcePart[T]{rejects: map[int]rejected{}}
	}
	return s
}

// Feed adds values to the first partition.
func (s *Source[T]) Feed(values ...T) { s.FeedTo(s.order[0], values...) }

// FeedTo adds values, without a reference time, to a partition.
func (s *Source[T]) FeedTo(partition string, values ...T) {
	rs := make([]flow.Record[T], len(values))
	for i, v := range values {
		rs[i] = flow.Record[T]{Value: v, Time: flow.None}
	}
	s.FeedRecords(partition, rs...)
}

// FeedRecords adds records, whose Time is their reference time, to a partition.
func (s *Source[T]) FeedRecords(partition string, rs ...flow.Record[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[partition]
	p.log = append(p.log, rs...)
	p.idle = false
	s.signal()
}

// FeedReject adds a message that cannot be decoded to the first partition.
func (s *Source[T]) FeedReject(raw string, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[s.order[0]]
	p.rejects[len(p.log)] = rejected{raw, cause}
	p.log = append(p.log, flow.Record[T]{})
	s.signal()
}

// Idle lets a partition say that there is nothing, now and whenever it has been read to its end. Settle waits until it has said so.
func (s *Source[T]) Idle(partition string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[partition].idle = true
	s.signal()
}

// End ends all partitions: the stream is bounded.
func (s *Source[T]) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		p.ended = true
	}
	s.signal()
}

func (s *Source[T]) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Committed is the offset that was acked last.
func (s *Source[T]) Committed(partition string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed[partition].Offset
}

// wait returns when everything that was fed has been emitted.
func (s *Source[T]) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		done, changed := s.running, s.changed
		for _, p := range s.parts {
			done = done && p.emitted >= len(p.log) && (!p.idle || p.told || p.ended)
		}
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("flowtest: the source's records are not taken")
		}
	}
}

// Partitions implements flow.FixedPartitions.
func (s *Source[T]) Partitions() int { return len(s.order) }

// Open implements flow.Source.
func (s *Source[T]) Open(context.Context, flow.SourceRuntime) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		p.emitted = 0
	}
	return nil
}

// Run implements flow.Source.
func (s *Source[T]) Run(ctx context.Context, a flow.Assign) error {
	var ps []flow.Partition
	s.mu.Lock()
	for _, id := range s.order {
		p := flow.Partition{ID: id}
		if s.Mode == flow.Seek {
			p.Committed = s.committed[id]
		}
		ps = append(ps, p)
	}
	s.mu.Unlock()
	if err := a.Add(ps...); err != nil {
		return err
	}
	s.mu.Lock()
	s.running = true
	s.signal()
	s.mu.Unlock()
	for {
		s.mu.Lock()
		ended, changed := true, s.changed
		for _, p := range s.parts {
			ended = ended && p.ended
		}
		s.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Read implements flow.Source.
func (s *Source[T]) Read(ctx context.Context, part flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	in.Window(s.WindowSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[part.ID]
	at := int(from.Offset)
	if s.Mode == flow.Redeliver {
		at = int(s.committed[part.ID].Offset)
	}
	p.emitted, p.told = at, false
	s.signal()
	for {
		n := min(len(p.log)-at, flow.MaxBatch)
		if n == 0 {
			if p.ended {
				return nil
			}
			if p.idle && !p.told {
				in.Idle()
				p.told = true
				s.signal()
			}
			changed := s.changed
			s.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
			}
			s.mu.Lock()
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		if s.BatchSize > 0 {
			n = min(n, s.BatchSize)
		}
		p.told = false
		buf := in.Buffer()
		for i := at; i < at+n; i++ {
			if r, bad := p.rejects[i]; bad {
				in.Reject([]byte(r.raw), r.err, flow.Position{Offset: int64(i + 1)})
				continue
			}
			buf = append(buf, p.log[i])
		}
		at += n
		s.mu.Unlock()
		err := in.Emit(ctx, buf, flow.Position{Offset: int64(at)})
		s.mu.Lock()
		if err != nil {
			return nil
		}
		p.emitted = at
		s.signal()
	}
}

// Commit implements flow.Source.
func (s *Source[T]) Commit(_ context.Context, p flow.Partition, upTo flow.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed[p.ID] = upTo
	return nil
}

// Replay implements flow.Source.
func (s *Source[T]) Replay() flow.Replay { return s.Mode }

// Close implements flow.Source.
func (s *Source[T]) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	return nil
}
