package operators

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// errOpen is a failure without a call.
var errOpen = errors.New("the circuit breaker is open: the lookup has failed too often in a row and is not asked until its pause is over")

// breaker keeps calls from a lookup that fails again and again: closed, open, half-open, after M. Nygard, "Release It!".
type breaker struct {
	limit int
	pause time.Duration
	clock flow.Clock
	count func(name string, n int64)

	mu       sync.Mutex
	failures int // in a row, while closed
	open     bool
	until    time.Time // when a probe may go, while open
	probing  bool
	turn     int           // number of the state: what calls of an earlier one come to is of no matter
	changed  chan struct{} // closed when calls that wait should look again
	last     error
}

func newBreaker(limit int, pause time.Duration) *breaker {
	return &breaker{limit: limit, pause: pause, changed: make(chan struct{})}
}

// reset closes it for a new run.
func (b *breaker) reset(rt flow.Runtime) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock, b.count = rt.Clock(), rt.Count
	b.failures, b.open, b.probing = 0, false, false
	b.next()
}

func (b *breaker) next() {
	b.turn++
	close(b.changed)
	b.changed = make(chan struct{})
}

// pass is the leave to make one call.
type pass struct {
	turn  int
	probe bool
}

// enter asks for leave to call. While the breaker is open it waits, or returns errOpen.
func (b *breaker) enter(ctx context.Context, wait bool) (pass, error) {
	for {
		b.mu.Lock()
		now := b.clock.Now()
		switch {
		case !b.open:
			p := pass{turn: b.turn}
			b.mu.Unlock()
			return p, nil
		case !b.probing && !now.Before(b.until):
			b.probing = true
			b.turn++
			p := pass{b.turn, true}
			b.mu.Unlock()
			return p, nil
		}
		changed, left, last := b.changed, b.until.Sub(now), b.last
		if b.probing {
			left = b.pause // its end is told
		}
		b.mu.Unlock()
		if !wait {
			return pass{}, flow.Transient(fmt.Errorf("%w; the last failure: %w", errOpen, last))
		}
		timer := b.clock.NewTimer(left)
		select {
		case <-timer.C():
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return pass{}, ctx.Err()
		}
		timer.Stop()
	}
}

// leave says what a call came to: nil and permanent errors are answers.
func (b *breaker) leave(p pass, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.turn != b.turn {
		return
	}
	if !flow.IsTransient(err) {
		b.failures = 0
		if p.probe {
			b.open, b.probing = false, false
			b.count("breaker_open", -1)
			b.next()
		}
		return
	}
	b.failures++
	b.last = err
	if !p.probe && b.failures < b.limit {
		return
	}
	if !p.probe {
		b.open = true
		b.count("breaker_opened", 1)
		b.count("breaker_open", 1)
	}
	b.probing = false
	b.failures = 0
	b.until = b.clock.Now().Add(b.pause)
	b.next()
}

// cancel gives a pass back unused: the call was broken off by the topology's end.
func (b *breaker) cancel(p pass) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.probe && p.turn == b.turn {
		b.probing = false
		b.next()
	}
}
