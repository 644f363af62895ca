package enrichtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

// directory is a lookup of lengths that a test can take down, slow down and change.
type directory struct {
	mu     sync.Mutex
	down   error
	hold   map[string]chan struct{} // keys that are not answered until closed
	gone   map[string]bool          // keys that are missing
	add    int                      // added to each value
	asked  map[string]int
	calls  int
	start  int
	stop   int
	within func(ctx context.Context) error
}

func newDirectory() *directory {
	return &directory{hold: map[string]chan struct{}{}, gone: map[string]bool{}, asked: map[string]int{}}
}

func (d *directory) Lookup(ctx context.Context, keys []string, vals []int, found []bool) error {
	d.mu.Lock()
	d.calls++
	var wait []chan struct{}
	for _, k := range keys {
		d.asked[k]++
		if d.hold[k] != nil {
			wait = append(wait, d.hold[k])
		}
	}
	down, add, within := d.down, d.add, d.within
	d.mu.Unlock()
	if within != nil {
		if err := within(ctx); err != nil {
			return err
		}
	}
	if down != nil {
		return down
	}
	for _, w := range wait {
		select {
		case <-w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, k := range keys {
		if k == "poison" {
			return errors.New("poisoned")
		}
		if !d.gone[k] {
			vals[i], found[i] = len(k)+add, true
		}
	}
	return nil
}

func (d *directory) Start(context.Context, flow.Runtime) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.start++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stop++
	}, nil
}

// set changes the directory.
func (d *directory) set(f func(d *directory)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *directory) callsOf(k string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[k]
}

func (d *directory) allCalls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

var errDown = flow.Transient(errors.New("down"))

// enriching runs strings through an Enrich node.
type enriching struct {
	*flowtest.Run
	src  *flowtest.Source[string]
	out  *flowtest.Sink[string]
	dead *flowtest.Sink[flow.DeadLetter]
}

func enrichWith(t *testing.T, d *directory, opts ...operators.EnrichOption) *enriching {
	t.Helper()
	e := &enriching{
		src: flowtest.NewSource[string]("0", "1"), out: flowtest.NewSink[string](), dead: flowtest.NewSink[flow.DeadLetter](),
	}
	e.Run = flowtest.Start(t, func(topts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("enrich", topts...)
		flow.To(operators.Enrich(flow.From(top, "in", e.src), "enrich", operators.Lookup[string, int](d), same, join, opts...), "out", e.out)
		flow.To(top.DeadLetters(), "dead", e.dead)
		return top
	}, e.src)
	return e
}

// answered waits until no record waits, while the clock goes on by step, and returns what came out since.
func (e *enriching) answered(t *testing.T, step time.Duration) []string {
	t.Helper()
	require.Eventually(t, func() bool {
		e.Clock.Advance(step)
		e.Settle()
		return e.Running().Pending() == 0
	}, 20*time.Second, time.Millisecond)
	e.Epoch()
	return e.out.Next()
}

func (e *enriching) counter(name string) int64 {
	for _, c := range e.Running().Counters() {
		if c.Node == "enrich" && c.Name == name {
			return c.Value
		}
	}
	return 0
}

func TestEnrichUnordered(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	slow := make(chan struct{})
	d.hold["slow"] = slow
	e := enrichWith(t, d, operators.Unordered(), operators.LookupBatch(1))
	e.src.Feed("slow", "a", "bb")
	require.Eventually(t, func() bool { e.Epoch(); return len(e.out.Values()) == 2 }, 20*time.Second, time.Millisecond)
	require.ElementsMatch(t, []string{"a=1,true", "bb=2,true"}, e.out.Next())
	close(slow)
	require.Equal(t, []string{"slow=4,true"}, e.answered(t, 0))
	e.Stop()
	require.Equal(t, []int{1, 1}, []int{d.start, d.stop})
}

func TestEnrichNegativeCache(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.gone["new"] = true
	e := enrichWith(t, d, operators.Cache(time.Hour, 100), operators.NegativeTTL(time.Minute))
	e.src.Feed("new", "old")
	require.Equal(t, []string{"new=0,false", "old=3,true"}, e.answered(t, 0))
	e.src.Feed("new", "new", "old")
	e.answered(t, 0)
	require.Equal(t, []int{1, 1}, []int{d.callsOf("new"), d.callsOf("old")})
	d.set(func(d *directory) { delete(d.gone, "new") })
	e.Clock.Advance(time.Minute)
	e.src.Feed("new", "old")
	require.Equal(t, []string{"new=3,true", "old=3,true"}, e.answered(t, 0))
	require.Equal(t, []int{2, 1}, []int{d.callsOf("new"), d.callsOf("old")})
	require.EqualValues(t, 2, e.counter("cache_negative_hits"))
	require.EqualValues(t, 2, e.counter("cache_hits"))
	require.EqualValues(t, 3, e.counter("cache_misses"))
	require.EqualValues(t, 3, e.counter("lookups"))
	e.Stop()
}

func TestEnrichKeepsNoMissingKeysWithoutNegativeTTL(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.gone["new"] = true
	e := enrichWith(t, d, operators.Cache(time.Hour, 100), operators.NegativeTTL(0))
	for range 3 {
		e.src.Feed("new")
		require.Equal(t, []string{"new=0,false"}, e.answered(t, 0))
	}
	require.Equal(t, 3, d.callsOf("new"))
	e.Stop()
}

func TestEnrichServesStaleAnswersWhileOneRefreshRuns(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	e := enrichWith(t, d, operators.Cache(time.Minute, 100), operators.StaleFor(time.Hour), operators.NegativeTTL(time.Second))
	e.src.Feed("a", "bb")
	e.answered(t, 0)

	// The value is too old and the lookup hangs: records go on with the old value, and one refresh waits.
	hang := make(chan struct{})
	d.set(func(d *directory) { d.hold["a"], d.hold["bb"], d.add = hang, hang, 10 })
	e.Clock.Advance(2 * time.Minute)
	for range 3 {
		e.src.Feed("a", "bb")
		require.Equal(t, []string{"a=1,true", "bb=2,true"}, e.answered(t, 0))
	}
	require.Equal(t, 2, d.callsOf("a"))
	require.EqualValues(t, 6, e.counter("cache_stale"))
	close(hang)
	require.Eventually(t, func() bool {
		e.src.Feed("a")
		return e.answered(t, 0)[0] == "a=11,true"
	}, 20*time.Second, time.Millisecond)

	// Down: the old value is served for ttl + StaleFor, then records wait.
	d.set(func(d *directory) { d.down, d.add = errDown, 20 })
	e.Clock.Advance(time.Hour)
	e.src.Feed("a")
	require.Equal(t, []string{"a=11,true"}, e.answered(t, 0))
	require.Eventually(t, func() bool { return e.counter("refresh_errors") == 1 }, 20*time.Second, time.Millisecond)
	e.Clock.Advance(time.Minute)
	e.src.Feed("a")
	e.Epoch()
	require.Empty(t, e.out.Next())
	d.set(func(d *directory) { d.down = nil })
	require.Equal(t, []string{"a=21,true"}, e.answered(t, time.Second))
	e.Stop()
}

func TestEnrichStopsWhileARefreshHangs(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	e := enrichWith(t, d, operators.Cache(time.Minute, 100), operators.StaleFor(time.Hour))
	e.src.Feed("a")
	e.answered(t, 0)
	d.set(func(d *directory) { d.hold["a"] = make(chan struct{}) })
	e.Clock.Advance(2 * time.Minute)
	e.src.Feed("a")
	e.answered(t, 0)
	e.Stop() // goleak looks for what is left
}

func TestEnrichFallback(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.down = errDown
	var causes []error
	var mu sync.Mutex
	e := enrichWith(t, d, operators.Attempts(2), operators.Cache(time.Hour, 10), operators.Fallback(func(k string, cause error) (int, bool, error) {
		mu.Lock()
		defer mu.Unlock()
		causes = append(causes, cause)
		if k == "none" {
			return 0, false, errors.New("no fallback for it")
		}
		return -1, k == "a", nil
	}))
	e.src.Feed("a", "b", "none")
	require.Equal(t, []string{"a=-1,true", "b=-1,false"}, e.answered(t, 10*time.Millisecond))
	require.Equal(t, 2, d.callsOf("a"))
	require.ErrorContains(t, causes[0], "down")
	require.Len(t, e.dead.Values(), 1)
	require.Contains(t, e.dead.Values()[0].Cause, "no fallback for it")
	require.EqualValues(t, 3, e.counter("fallbacks"))

	// What a fallback said is not cached; a key with a permanent error gets it alone.
	d.set(func(d *directory) { d.down = nil })
	e.src.Feed("a", "poison", "b")
	require.Equal(t, []string{"a=1,true", "poison=-1,false", "b=1,true"}, e.answered(t, 0))
	require.ErrorContains(t, causes[len(causes)-1], "poisoned")
	e.Stop()
}

func TestEnrichFallsBackWhenTheLookupTakesTooLong(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.hold["a"] = make(chan struct{})
	e := enrichWith(t, d, operators.Timeout(20*time.Millisecond), operators.Attempts(1), operators.FallbackValue(7))
	e.src.Feed("a")
	require.Equal(t, []string{"a=7,true"}, e.answered(t, 0))
	e.Stop()
}

func TestEnrichPermanentErrorIsOfItsKeyAlone(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	e := enrichWith(t, d)
	e.src.Feed("a", "poison", "b")
	require.Equal(t, []string{"a=1,true", "b=1,true"}, e.answered(t, 0))
	require.Len(t, e.dead.Values(), 1)
	e.Stop()
}

func TestEnrichSurvivesALookupThatPanics(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.within = func(context.Context) error { panic("oh") }
	e := enrichWith(t, d, operators.Cache(time.Minute, 10), operators.StaleFor(time.Minute))
	e.src.Feed("a", "b")
	require.Empty(t, e.answered(t, 0))
	require.Len(t, e.dead.Values(), 2)
	d.set(func(d *directory) { d.within = nil })
	e.src.Feed("a")
	require.Equal(t, []string{"a=1,true"}, e.answered(t, 0))
	d.set(func(d *directory) { d.within = func(context.Context) error { panic("oh") } })
	e.Clock.Advance(90 * time.Second)
	e.src.Feed("a")
	require.Equal(t, []string{"a=1,true"}, e.answered(t, 0))
	require.Eventually(t, func() bool { return e.counter("refresh_errors") == 1 }, 20*time.Second, time.Millisecond)
	e.Stop()
}

func TestEnrichAsksOnceForAKeyThatIsBeingAskedFor(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	hold := make(chan struct{})
	d.hold["a"] = hold
	e := enrichWith(t, d)
	e.src.FeedTo("0", "a")
	require.Eventually(t, func() bool { e.Settle(); return d.callsOf("a") == 1 }, 20*time.Second, time.Millisecond)
	e.src.FeedTo("1", "a", "b")
	e.src.FeedTo("0", "a")
	require.Eventually(t, func() bool { e.Settle(); return d.callsOf("b") == 1 && e.counter("shared") == 2 }, 20*time.Second, time.Millisecond)
	close(hold)
	require.ElementsMatch(t, []string{"a=1,true", "a=1,true", "a=1,true", "b=1,true"}, e.answered(t, 0))
	require.Equal(t, 1, d.callsOf("a"))
	e.Stop()
}

type later struct{}

func (later) Error() string             { return "too many requests" }
func (later) RetryAfter() time.Duration { return 30 * time.Second }

func TestEnrichComesAgainWhenItWasToldTo(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]operators.EnrichOption{
		"waits": nil, "has a fallback": {operators.FallbackValue(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDirectory()
			d.down = flow.Transient(later{})
			e := enrichWith(t, d, opts...)
			e.src.Feed("a")
			require.Eventually(t, func() bool { e.Settle(); return d.allCalls() == 1 && e.Clock.Sleepers() > 0 }, 20*time.Second, time.Millisecond)
			for range 29 {
				e.Clock.Advance(time.Second)
				e.Settle()
			}
			require.Equal(t, 1, d.allCalls())
			d.set(func(d *directory) { d.down = nil })
			require.Equal(t, []string{"a=1,true"}, e.answered(t, time.Second))
			e.Stop()
		})
	}
}

func TestEnrichWithAnOpenBreaker(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.down = errDown
	e := enrichWith(t, d, operators.CircuitBreaker(3, time.Minute), operators.Concurrency(2), operators.LookupBatch(1))
	var want []string
	for i := range 20 {
		k := strings.Repeat("k", i+1)
		e.src.Feed(k)
		want = append(want, fmt.Sprintf("%s=%d,true", k, i+1))
	}
	require.Eventually(t, func() bool {
		e.Clock.Advance(100 * time.Millisecond)
		e.Settle()
		return e.counter("breaker_open") == 1
	}, 20*time.Second, time.Millisecond)
	calls := d.allCalls()
	for range 30 {
		e.Clock.Advance(time.Second)
		e.Epoch()
	}
	require.Equal(t, calls, d.allCalls(), "it is not called while the breaker is open")
	require.Equal(t, 20, e.Running().Pending())
	require.Eventually(t, func() bool {
		e.Clock.Advance(time.Second)
		e.Settle()
		return d.allCalls() > calls
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, calls+1, d.allCalls(), "one probe")
	e.Crash() // what waits is state
	d.set(func(d *directory) { d.down = nil })
	require.Equal(t, want, e.answered(t, time.Second))
	e.Stop()
}

func TestEnrichFallsBackAtOnceWhileTheBreakerIsOpen(t *testing.T) {
	t.Parallel()
	d := newDirectory()
	d.down = errDown
	e := enrichWith(t, d, operators.CircuitBreaker(1, time.Minute), operators.FallbackValue(-1), operators.Attempts(1))
	e.src.Feed("a")
	require.Equal(t, []string{"a=-1,true"}, e.answered(t, 0))
	calls := d.allCalls()
	e.src.Feed("b", "c")
	require.Equal(t, []string{"b=-1,true", "c=-1,true"}, e.answered(t, 0))
	require.Equal(t, calls, d.allCalls())
	d.set(func(d *directory) { d.down = nil })
	e.Clock.Advance(time.Minute)
	e.src.Feed("b")
	require.Equal(t, []string{"b=1,true"}, e.answered(t, 0))
	require.Zero(t, e.counter("breaker_open"))
	require.EqualValues(t, 1, e.counter("breaker_opened"))
	e.Stop()
}

// TestEnrichOutageBlocksNothingButItsNode: for a minute (of the topology's clock) the lookup is down. Meanwhile a branch beside the node
// goes on until the node is full, a second source's path goes on all the time, epochs commit and acks go out; then everything comes
// out, once, in order.
func TestEnrichOutageBlocksNothingButItsNode(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]operators.EnrichOption{
		"tried again and again": nil, "with a breaker": {operators.CircuitBreaker(2, 5*time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const capacity = 500
			d := newDirectory()
			d.down = errDown
			src, other := flowtest.NewSource[string](), flowtest.NewSource[string]()
			out, beside, apart := flowtest.NewSink[string](), flowtest.NewSink[string](), flowtest.NewSink[string]()
			r := flowtest.Start(t, func(topts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("outage", topts...)
				in := flow.From(top, "in", src)
				flow.To(operators.Enrich(in, "enrich", operators.Lookup[string, int](d), same, join,
					append(opts, operators.Capacity(capacity), operators.LookupBatch(64))...), "out", out)
				flow.To(in, "beside", beside)
				flow.To(flow.From(top, "other", other), "apart", apart)
				return top
			}, src, other)
			var want []string
			feed := func(n int) {
				for range n {
					k := fmt.Sprintf("%05d", len(want))
					src.Feed(k)
					want = append(want, k+"=5,true")
				}
			}
			for second := range 60 {
				if second < 50 { // 500 in all: up to the capacity
					feed(10)
				}
				other.Feed(fmt.Sprint(second))
				r.Clock.Advance(time.Second)
				r.Epoch()
				require.Empty(t, out.Values())
				require.Len(t, beside.Values(), len(want), "the branch goes on")
				require.EqualValues(t, len(want), src.Committed("0"), "acks do not wait for answers")
				require.Len(t, apart.Values(), second+1, "the other path goes on")
			}
			require.Equal(t, capacity, r.Running().Pending())
			r.Crash()
			feed(2000) // beyond it: backpressure on this source alone
			other.Feed("still")
			require.Eventually(t, func() bool {
				r.Clock.Advance(time.Second)
				return len(apart.Values()) > 60 || r.Running().Epoch(t.Context()) != nil
			}, 20*time.Second, time.Millisecond, "the other path goes on while the node is full")
			d.set(func(d *directory) { d.down = nil })
			require.Eventually(t, func() bool {
				r.Clock.Advance(10 * time.Second)
				r.Settle()
				return r.Running().Pending() == 0
			}, 20*time.Second, time.Millisecond)
			r.Epoch()
			require.Equal(t, want, out.Values())
			require.Len(t, beside.Values(), len(want))
			r.Stop()
		})
	}
}

// TestEnrichUnderRandomFailures: whatever the settings and the failures, every record comes out once.
func TestEnrichUnderRandomFailures(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 2))
			d := newDirectory()
			var mu sync.Mutex
			fail := rand.New(rand.NewPCG(seed, 3))
			d.within = func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if fail.IntN(3) == 0 {
					return errDown
				}
				return nil
			}
			opts := []operators.EnrichOption{operators.Concurrency(1 + rnd.IntN(6)), operators.LookupBatch(1 + rnd.IntN(20)), operators.Capacity(1 + rnd.IntN(100))}
			unordered := rnd.IntN(2) == 0
			if unordered {
				opts = append(opts, operators.Unordered())
			}
			if rnd.IntN(2) == 0 {
				opts = append(opts, operators.Cache(time.Duration(1+rnd.IntN(5))*time.Second, 1+rnd.IntN(30)))
				if rnd.IntN(2) == 0 {
					opts = append(opts, operators.StaleFor(time.Duration(1+rnd.IntN(5))*time.Second))
				}
			}
			if rnd.IntN(2) == 0 {
				opts = append(opts, operators.CircuitBreaker(1+rnd.IntN(3), time.Duration(1+rnd.IntN(10))*time.Second))
			}
			e := enrichWith(t, d, opts...)
			var want []string
			for i := range 400 {
				k := fmt.Sprintf("%0*d", 1+rnd.IntN(4), rnd.IntN(40))
				want = append(want, fmt.Sprintf("%s=%d,true", k, len(k)))
				e.src.Feed(k)
				if i%100 == 50 {
					e.Clock.Advance(time.Second)
					e.Epoch()
				}
				if i%150 == 100 {
					e.Crash()
				}
			}
			e.answered(t, time.Second)
			if unordered {
				require.ElementsMatch(t, want, e.out.Values())
			} else {
				require.Equal(t, want, e.out.Values())
			}
			e.Stop()
		})
	}
}

func TestEnrichOptionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]operators.EnrichOption{
		"NegativeTTL or StaleFor without a Cache": operators.StaleFor(time.Second),
		"NegativeTTL is negative":                 operators.NegativeTTL(-1),
		"StaleFor is not positive":                operators.StaleFor(0),
		"Attempts without a Fallback":             operators.Attempts(2),
		"Attempts is less than 1":                 operators.Attempts(0),
		"circuit breaker's failures and pause":    operators.CircuitBreaker(0, time.Second),
		"the timeout is not positive":             operators.Timeout(-1),
		"keys of type string and values of type":  operators.FallbackValue("seven"),
		"the fallback function is nil":            operators.Fallback[string, int](nil),
		"cache's ttl and size":                    operators.Cache(0, 1),
	} {
		top := flow.New("fit")
		flow.To(operators.Enrich(flow.From(top, "in", flowtest.NewSource[string]()), "enrich", operators.Lookup[string, int](newDirectory()),
			same, join, opt), "out", flowtest.NewSink[string]())
		require.ErrorContains(t, top.Validate(), want)
	}
}
