package harness

import (
	"context"
	"sync"
	"time"
)

// Load says which events are offered, and when. Events are numbered from 0. It is safe for concurrent use.
//
// A closed load (rate 0) offers them as fast as they are taken. An open load offers so many a second, whatever becomes of them: each event
// is due at a moment that does not depend on the system under test, and its latency counts from there, so that a system that falls behind
// cannot hide it by taking later events later (coordinated omission).
type Load struct {
	rate     float64
	warmUp   time.Duration
	duration time.Duration
	limit    int64

	// first, if it is not nil, is called before the first event is taken.
	first func()
	once  sync.Once

	mu    sync.Mutex
	began time.Time
	next  int64
	ended bool
	end   chan struct{}
}

// NewLoad makes a load of rate events a second (0: closed) that ends after warm-up and duration, or after limit events where that is positive.
func NewLoad(rate float64, warmUp, duration time.Duration, limit int64) *Load {
	return &Load{rate: rate, warmUp: warmUp, duration: duration, limit: limit, end: make(chan struct{})}
}

// Take returns the next events: n of them, at most most, from number first on. It waits until at least one is due. n is 0 when the load has
// ended or ctx has.
func (l *Load) Take(ctx context.Context, most int) (first int64, n int) {
	if l.first != nil {
		l.once.Do(l.first)
	}
	for {
		first, n, wait := l.take(most)
		if n > 0 || wait <= 0 {
			return first, n
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, 0
		}
	}
}

func (l *Load) take(most int) (first int64, n int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.began.IsZero() {
		l.began = now
	}
	if l.ended {
		return 0, 0, 0
	}
	due := int64(most) + l.next
	if l.rate > 0 {
		due = int64(now.Sub(l.began).Seconds() * l.rate)
		if last := int64((l.warmUp + l.duration).Seconds() * l.rate); l.limit <= 0 && due >= last {
			due = last
			if l.next >= last {
				l.finish()
				return 0, 0, 0
			}
		}
	} else if l.limit <= 0 && now.Sub(l.began) >= l.warmUp+l.duration {
		l.finish()
		return 0, 0, 0
	}
	if l.limit > 0 {
		if l.next >= l.limit {
			l.finish()
			return 0, 0, 0
		}
		due = min(due, l.limit)
	}
	if due <= l.next {
		return 0, 0, min(max(l.at(l.next+1).Sub(now), 50*time.Microsecond), 10*time.Millisecond)
	}
	first, n = l.next, int(min(due-l.next, int64(most)))
	l.next += int64(n)
	return first, n, 0
}

func (l *Load) finish() {
	l.ended = true
	close(l.end)
}

// Ended is closed when all events are taken.
func (l *Load) Ended() <-chan struct{} { return l.end }

// Taken is how many events were taken.
func (l *Load) Taken() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Open tells whether the load is an open one.
func (l *Load) Open() bool { return l.rate > 0 }

// Duration is how long the load lasts behind its warm-up, or limit after how many events it ends instead, where that is positive.
func (l *Load) Duration() (d time.Duration, limit int64) { return l.duration, l.limit }

// Due is when an event of an open load was due.
func (l *Load) Due(event int64) time.Time { return l.at(event + 1) }

func (l *Load) at(n int64) time.Time {
	return l.began.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
}
