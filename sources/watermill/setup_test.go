package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// No goroutine of a source outlives its Close.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")) // sarama's, never ended
}

func eventually(t testing.TB, is func() bool, why string) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, time.Millisecond, why)
}

// scripted is a subscriber under a test's control. It gives messages without waiting for acks, and gives those that were not acked again to the
// next subscription.
type scripted struct {
	mu      sync.Mutex
	log     []*message.Message
	acked   map[string]bool
	refuse  error
	cut     chan struct{} // closed: the subscription ends by itself
	changed chan struct{}
	subs    int
	closed  int
	nacked  int
	deaf    bool // does not close its channel when its context ends
}

func newScripted() *scripted {
	return &scripted{acked: map[string]bool{}, changed: make(chan struct{}), cut: make(chan struct{})}
}

func (s *scripted) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// feed adds messages whose UUIDs and payloads are these.
func (s *scripted) feed(payloads ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range payloads {
		m := message.NewMessage(p, message.Payload(p))
		m.Metadata.Set("from", p)
		s.log = append(s.log, m)
	}
	s.signal()
}

func (s *scripted) numbers(from, n int) {
	p := make([]string, n)
	for i := range p {
		p[i] = fmt.Sprint(from + i)
	}
	s.feed(p...)
}

// end ends the subscription and refuses new ones while err is not nil.
func (s *scripted) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
	close(s.cut)
	s.cut = make(chan struct{})
}

func (s *scripted) allow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = nil
}

func (s *scripted) counts() (acked, nacked, subs, closed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked), s.nacked, s.subs, s.closed
}

func (s *scripted) ackedCount() int {
	n, _, _, _ := s.counts()
	return n
}

func (s *scripted) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs++
	if s.refuse != nil {
		return nil, s.refuse
	}
	cut := s.cut
	out := make(chan *message.Message)
	var given sync.WaitGroup
	go func() {
		defer func() {
			given.Wait()
			if !s.deaf {
				close(out)
			}
		}()
		for at := 0; ; {
			s.mu.Lock()
			waiting, changed := s.log[at:], s.changed
			s.mu.Unlock()
			for _, m := range waiting {
				at++
				s.mu.Lock()
				done := s.acked[m.UUID]
				s.mu.Unlock()
				if done {
					continue
				}
				c := m.Copy()
				mctx, cancel := context.WithCancel(ctx)
				c.SetContext(mctx)
				select {
				case out <- c:
				case <-cut:
					cancel()
					return
				case <-ctx.Done():
					cancel()
					return
				}
				given.Go(func() {
					defer cancel()
					select {
					case <-c.Acked():
						s.mu.Lock()
						s.acked[c.UUID] = true
						s.mu.Unlock()
					case <-c.Nacked():
						s.mu.Lock()
						s.nacked++
						s.mu.Unlock()
					case <-cut:
					case <-ctx.Done():
					}
				})
			}
			select {
			case <-changed:
			case <-cut:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (s *scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

var errDown = errors.New("the broker is down")

func text(m *message.Message) (string, error) {
	if string(m.Payload) == "bad" {
		return "", errors.New("not a text")
	}
	if string(m.Payload) == "worse" {
		panic("cannot bear it")
	}
	return string(m.Payload), nil
}

// copying is a topology that hands on what it reads, with manual epochs and a virtual clock.
func copying(t *testing.T, src func() flow.Source[string], out *flowtest.Sink[string], letters *flowtest.Sink[flow.DeadLetter]) *flowtest.Run {
	r := flowtest.New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("copying", opts...)
		flow.To(flow.From(top, "in", src()), "out", out)
		if letters != nil {
			flow.To(top.DeadLetters(), "letters", letters)
		}
		return top
	})
	r.Restart()
	return r
}

func counter(r *flowtest.Run, name string) int64 {
	for _, c := range r.Running().Counters() {
		if c.Node == "in" && c.Name == name {
			return c.Value
		}
	}
	return 0
}
