package flowtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Network is the way between a connector and its system, on which a contract suite causes faults: a proxy that the connector is
// told to connect to. What the suite itself publishes and reads back goes past it. A fault holds until Restore, or until another
// one takes its place. The methods fail the test themselves when they cannot do what they are asked.
type Network interface {
	// Cut closes all connections and refuses new ones.
	Cut()
	// Reset breaks all connections at once, in the middle of whatever they carry, and new ones as soon as they carry something.
	Reset()
	// HalfOpen lets all connections stand and carries nothing any more, in neither direction.
	HalfOpen()
	// DropAnswers carries what the connector sends and nothing of what the system answers: requests are done, and nobody is told.
	DropAnswers()
	// Slow delays everything and lets little through at once.
	Slow()
	// Restore makes all well again for new connections. Those that have lost something may be closed.
	Restore()
}

// fault is a fault of a Network.
type fault struct {
	name  string
	cause func(Network)
}

var faults = []fault{
	{"cut", Network.Cut},
	{"reset", Network.Reset},
	{"half-open", Network.HalfOpen},
	{"answers lost", Network.DropAnswers},
	{"slow", Network.Slow},
}

// Defaults of a contract's setup.
const (
	defaultCount   = 600
	defaultHold    = 300 * time.Millisecond
	defaultRecover = 10 * time.Second
	defaultHeap    = 16 << 20
)

// patience bounds what does not depend on the system.
type patience struct {
	prompt  time.Duration // what waits for nothing
	closing time.Duration // saying goodbye
}

func (p patience) withDefaults() patience {
	if p.prompt == 0 {
		p.prompt = 2 * time.Second
	}
	if p.closing == 0 {
		p.closing = 10 * time.Second
	}
	return p
}

// pause waits for wall time: what is judged is what happens meanwhile.
func pause(d time.Duration) { _ = flow.SystemClock().Sleep(context.Background(), d) }

// within waits until is holds, looking again at each change and now and then.
func within(t testing.TB, d time.Duration, changed func() <-chan struct{}, is func() bool) bool {
	t.Helper()
	end := flow.SystemClock().NewTimer(d)
	defer end.Stop()
	for {
		c := changed()
		if is() {
			return true
		}
		again := flow.SystemClock().NewTimer(20 * time.Millisecond)
		select {
		case <-c:
		case <-again.C():
		case <-end.C():
			again.Stop()
			return is()
		}
		again.Stop()
	}
}

// returns runs f beside the test and tells whether it has returned within d.
func returns(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	return closed(done, d)
}

// closed tells whether c is closed within d.
func closed(c <-chan struct{}, d time.Duration) bool {
	end := flow.SystemClock().NewTimer(d)
	defer end.Stop()
	select {
	case <-c:
		return true
	case <-end.C():
		return false
	}
}

// notice wakes all who wait for something to change.
type notice struct {
	mu sync.Mutex
	c  chan struct{}
}

func (n *notice) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.c == nil {
		n.c = make(chan struct{})
	}
	return n.c
}

func (n *notice) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.c != nil {
		close(n.c)
		n.c = nil
	}
}

// logBook keeps what a connector logs, to be shown when its check fails.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// showIn prints the log with a failed test.
func (l *logBook) showIn(t testing.TB) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		text := l.b.String()
		if len(text) > 8<<10 {
			text = "…" + text[len(text)-8<<10:]
		}
		t.Logf("the connector's log:\n%s", text)
	})
}

// leftOut says what a check lacks, or the rest of it.
func leftOut(t testing.TB, what string) {
	t.Helper()
	t.Logf("left out: the case has not %s", what)
}

// unique is a name that no other run has.
func unique() string { return "contract-" + strings.ToLower(rand.Text())[:12] }

// numbers are from, from+1 … to-1.
func numbers(from, to int) []int {
	ids := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		ids = append(ids, i)
	}
	return ids
}

// brief lists ids in a form short enough for an error.
func brief(ids []int) string {
	ids = slices.Sorted(slices.Values(ids))
	const most = 12
	if len(ids) <= most {
		return fmt.Sprint(ids)
	}
	return fmt.Sprintf("%v and %d more", ids[:most], len(ids)-most)
}

// missing are the wanted ids that did not come.
func missing(want, got []int) []int {
	there := make(map[int]bool, len(got))
	for _, id := range got {
		there[id] = true
	}
	var m []int
	for _, id := range want {
		if !there[id] {
			m = append(m, id)
		}
	}
	return m
}

// repeated are the ids that came more than once.
func repeated(got []int) []int {
	n := make(map[int]int, len(got))
	var r []int
	for _, id := range got {
		if n[id]++; n[id] == 2 {
			r = append(r, id)
		}
	}
	return r
}
