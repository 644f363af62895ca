package enrichtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

func join(v string, with int, found bool) (string, error) {
	if v == "bad" {
		return "", errors.New("bad record")
	}
	return fmt.Sprintf("%s=%d,%v", v, with, found), nil
}

func same(v string) string { return v }

func TestEnrichFromTable(t *testing.T) {
	src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("enrich", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "enrich", operators.Table[string, int]{"a": 1}, same, join), "out", out)
		return top
	}, src)
	src.Feed("a", "b")
	r.Epoch()
	require.Equal(t, []string{"a=1,true", "b=0,false"}, out.Values())
}

// gate is a lookup that answers when it is let.
type gate struct {
	mu    sync.Mutex
	open  chan struct{}
	asked [][]string
	fail  error
}

func (g *gate) Lookup(ctx context.Context, keys []string, vals []int, found []bool) error {
	g.mu.Lock()
	g.asked = append(g.asked, append([]string(nil), keys...))
	open, fail := g.open, g.fail
	g.mu.Unlock()
	if fail != nil {
		return fail
	}
	select {
	case <-open:
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, k := range keys {
		vals[i], found[i] = len(k), true
	}
	return nil
}

func (g *gate) calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asked)
}

func TestEnrichKeepsOrderAndSurvivesACrashWhileWaiting(t *testing.T) {
	src, out, dead := flowtest.NewSource[string](), flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
	g := &gate{open: make(chan struct{})}
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("enrich", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "enrich", operators.Lookup[string, int](g), same, join,
			operators.Capacity(4), operators.LookupBatch(2), operators.Cache(time.Hour, 100)), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed("a", "bb", "bad", "ccc", "a", "dddd")
	r.Epoch() // does not wait for the lookup
	require.Empty(t, out.Values())
	require.EqualValues(t, 6, src.Committed("0"), "waiting records are state: acked")
	r.Crash()
	close(g.open)
	src.Feed("a")
	require.Eventually(t, func() bool { r.Settle(); return r.Running().Pending() == 0 }, 10*time.Second, time.Millisecond)
	r.Epoch()
	require.Equal(t, []string{"a=1,true", "bb=2,true", "ccc=3,true", "a=1,true", "dddd=4,true", "a=1,true"}, out.Values())
	require.Len(t, dead.Values(), 1)
	n := g.calls()
	src.Feed("a", "bb")
	r.Epoch()
	require.Equal(t, n, g.calls(), "cached")
	r.Stop()
}

func TestEnrichRetriesALookupThatIsDown(t *testing.T) {
	src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
	g := &gate{open: make(chan struct{}), fail: flow.Transient(errors.New("down"))}
	close(g.open)
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("enrich", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "enrich", operators.Lookup[string, int](g), same, join), "out", out)
		return top
	}, src)
	src.Feed("a")
	require.Eventually(t, func() bool { r.Clock.Advance(time.Second); return g.calls() > 3 }, 10*time.Second, time.Millisecond)
	g.mu.Lock()
	g.fail = nil
	g.mu.Unlock()
	require.Eventually(t, func() bool { r.Clock.Advance(10 * time.Second); r.Settle(); return r.Running().Pending() == 0 }, 10*time.Second, time.Millisecond)
	r.Epoch()
	require.Equal(t, []string{"a=1,true"}, out.Values())
	r.Stop()
}
