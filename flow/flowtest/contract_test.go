package flowtest

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// memorySetup is the contract of memorySource.
func memorySetup(mode flow.Replay, partitions int, quirk string) SourceSetup[int] {
	return SourceSetup[int]{
		New: func(t testing.TB) SourceCase[int] {
			m := newMemory(t, partitions)
			c := SourceCase[int]{
				Source: func() flow.Source[int] { return newMemorySource(m, mode, quirk) },
				Publish: func(_ testing.TB, ids []int) {
					for _, id := range ids {
						m.publish(strconv.Itoa(id))
					}
				},
				Poison: func(_ testing.TB, payload []byte) { m.publish(string(payload)) },
				Large: func(_ testing.TB, ids []int, bytes int) {
					m.set(func() { m.pad = bytes })
					for _, id := range ids {
						m.publish(strconv.Itoa(id))
					}
				},
				Network: m,
			}
			if partitions > 1 {
				c.Member = c.Source
			}
			return c
		},
		ID: func(v int) int { return v },
		Wrong: map[string]func() flow.Source[int]{"topic": func() flow.Source[int] {
			s := newMemorySource(&memory{parts: make([]memoryPart, 1)}, mode, quirk)
			s.wrong = true
			return s
		}},
		RepeatsOnFault: mode == flow.Redeliver, Remembers: true, Hold: 50 * time.Millisecond, Recover: 5 * time.Second, MaxHeap: 4 << 20,
	}
}

func TestSourceContract(t *testing.T) {
	for _, c := range []struct {
		name       string
		mode       flow.Replay
		partitions int
	}{{"seek", flow.Seek, 2}, {"redeliver", flow.Redeliver, 1}} {
		t.Run(c.name, func(t *testing.T) { SourceContract(t, memorySetup(c.mode, c.partitions, "")) })
	}
}

// The scripted source keeps the contract that it stands in for.
func TestScriptedSource(t *testing.T) {
	for name, mode := range map[string]flow.Replay{"seek": flow.Seek, "redeliver": flow.Redeliver} {
		t.Run(name, func(t *testing.T) {
			SourceContract(t, SourceSetup[int]{
				New: func(testing.TB) SourceCase[int] {
					s := NewSource[int]()
					s.Mode, s.BatchSize = mode, 100
					return SourceCase[int]{
						Source:  func() flow.Source[int] { return s },
						Publish: func(_ testing.TB, ids []int) { s.Feed(ids...) },
						Poison:  func(_ testing.TB, payload []byte) { s.FeedReject(string(payload), fmt.Errorf("bad")) },
					}
				},
				ID: func(v int) int { return v }, Remembers: true, NoIdle: true, Hold: 50 * time.Millisecond,
			})
		})
	}
}

// probe is a test that may fail.
type probe struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (p *probe) Errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, fmt.Sprintf(format, args...))
}

func (p *probe) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

func (p *probe) Fatal(args ...any)   { p.Fatalf("%s", fmt.Sprint(args...)) }
func (p *probe) Error(args ...any)   { p.Errorf("%s", fmt.Sprint(args...)) }
func (p *probe) FailNow()            { p.Fatalf("FailNow") }
func (p *probe) Helper()             {}
func (p *probe) Logf(string, ...any) {}
func (p *probe) Cleanup(f func())    { p.cleanups = append(p.cleanups, f) }
func (p *probe) Failed() bool        { p.mu.Lock(); defer p.mu.Unlock(); return len(p.failures) > 0 }
func (p *probe) text() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.failures)
}
func probing(t *testing.T) *probe { return &probe{TB: t} }
func (p *probe) run(f func(testing.TB)) []string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(p)
	}()
	<-done
	for _, c := range slices.Backward(p.cleanups) {
		c()
	}
	return p.text()
}

// mutants are sources that break one promise, by the check that must notice and a word of what it says.
var sourceMutants = []struct{ quirk, check, says string }{
	{"wrong is accepted", "wrong configuration", "accepts"},
	{"wrong is transient", "wrong configuration", "transient"},
	{"wrong without a word", "wrong configuration", "does not say"},
	{"open connects", "begins without its system", "connecting belongs to Run"},
	{"run fails for good", "begins without its system", "Run failed for good"},
	{"run gives up", "begins without its system", "have not come"},
	{"run returns the context's error", "everything once in order", "return nil then"},
	{"swaps records", "everything once in order", "published later"},
	{"loses a record", "everything once in order", "have not come"},
	{"emits twice", "everything once in order", "more than once"},
	{"positions stand still", "everything once in order", "positions must rise"},
	{"position is zero", "everything once in order", "nothing is known"},
	{"batch is too big", "everything once in order", "at most flow.MaxBatch"},
	{"writes into its last batch", "everything once in order", "was changed"},
	{"acks what it emits", "crash without a commit", "have not come"},
	{"acks more than it was told", "crash between commits", "have not come"},
	{"acks more than it was told", "cut after the ack", "have not come"},
	{"ignores its position", "crash between commits", "should not"},
	{"commits nothing", "clean stop", "should not"},
	{"loses what nobody takes", "backpressure", "have not come"},
	{"reads ahead", "bounded memory", "the source holds"},
	{"idle while blocked", "idle and lag", "waits in Emit"},
	{"idle without a connection", "idle and lag", "connection was cut"},
	{"lag stays", "idle and lag", "lag 1"},
	{"poison stops it", "poison", "failed for good"},
	{"poison vanishes", "poison", "were not rejected"},
	{"poison without its bytes", "poison", "were not rejected"},
	{"poison without a cause", "poison", "without a cause"},
	{"poison without a position", "poison", "without a position"},
	{"poison takes its batch along", "poison", "have not come"},
	{"poison is not covered", "poison", "covered by an Emit"},
	{"ignores the end", "ends when told", "have not returned"},
	{"close hangs", "ends when told", "Close has not returned"},
	{"closes once", "ends when told", "Close, call 2"},
	{"leaks", "leaves no goroutine", "outlive Close"},
	{"gives away before remove", "remove waits", "two members"},
	{"leaves the group too early", "remove waits", "before the last commit"},
	{"read fails for good", "fault cut", "failed for good"},
	{"read gives up", "fault reset", "have not come"},
	{"read gives up", "fault half-open", "have not come"},
	{"read gives up", "fault answers lost", "have not come"},
	{"commit fails for good", "fault cut", "Commit of partition"},
	{"forgets commits", "fault cut", "should not"},
	{"loses a record", "fault slow", "have not come"},
	{"loses a record", "in a topology", "have not come"},
}

// mutant is a connector that breaks one promise, with the check that must notice it.
type mutant struct {
	name  string
	check func(testing.TB)
	alone bool
	says  string
}

// mustFail runs the checks, several at once, and demands that each fails with its words.
func mustFail(t *testing.T, mutants []mutant) {
	t.Helper()
	said := make([][]string, len(mutants))
	var all sync.WaitGroup
	slots := make(chan struct{}, 12)
	for i, m := range mutants {
		if m.alone {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			said[i] = lookFor(t, m)
		})
	}
	all.Wait()
	for i, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			if m.alone {
				said[i] = lookFor(t, m)
			}
			require.NotEmpty(t, said[i], "the check passes")
			require.Contains(t, strings.Join(said[i], "\n"), m.says)
		})
	}
}

// lookFor runs a check on a mutant. Where a finding hangs on a moment that a busy machine may miss, it looks again.
func lookFor(t *testing.T, m mutant) (said []string) {
	for tries := 0; tries < 5 && len(said) == 0; tries++ {
		said = probing(t).run(m.check)
	}
	return said
}

// hasty is for connectors of which it is known that they will keep one waiting.
func hasty() patience { return patience{300 * time.Millisecond, 300 * time.Millisecond} }

// TestSourceContractFinds proves of every check that it can fail.
func TestSourceContractFinds(t *testing.T) {
	checks := map[string]sourceCheck[int]{}
	unproved := map[string]bool{}
	for _, c := range sourceChecks[int]() {
		checks[c.name], unproved[c.name] = c, true
	}
	var mutants []mutant
	for _, m := range sourceMutants {
		for _, mode := range []flow.Replay{flow.Seek, flow.Redeliver} {
			if mode == flow.Redeliver && !slices.Contains([]string{"acks what it emits", "acks more than it was told"}, m.quirk) {
				continue
			}
			delete(unproved, m.check)
			c := checks[m.check]
			mutants = append(mutants, mutant{
				name: fmt.Sprint(m.quirk, "/", m.check, "/", mode), alone: c.alone, says: m.says,
				check: func(t testing.TB) {
					s := memorySetup(mode, 1+int(1-mode), m.quirk)
					s.Count, s.Hold, s.Recover, s.patience = 120, 20*time.Millisecond, time.Second, hasty()
					s = s.withDefaults()
					c.run(t, &s)
				},
			})
		}
	}
	mustFail(t, mutants)
	require.Empty(t, unproved, "checks of which nothing proves that they can fail")
}
