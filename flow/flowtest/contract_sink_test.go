package flowtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// memorySinkSetup is the contract of memorySink.
func memorySinkSetup(quirk string) SinkSetup[item] {
	return SinkSetup[item]{
		New: func(t testing.TB) SinkCase[item] {
			m := newMemory(t, 1)
			return SinkCase[item]{
				Sink:    func() flow.Sink[item] { return &memorySink{m: m, quirk: quirk} },
				Stored:  func(testing.TB) []int { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.rows) },
				Network: m,
			}
		},
		Record: func(id int) item { return item{id} },
		Refused: map[string]func(id int) item{
			"refused by Write":      func(id int) item { return item{-2 * (id + 1)} },
			"refused by the system": func(id int) item { return item{-2*(id+1) - 1} },
		},
		Wrong: map[string]func() flow.Sink[item]{"table": func() flow.Sink[item] {
			return &memorySink{m: &memory{}, wrong: true, quirk: quirk}
		}},
		Hold: 50 * time.Millisecond, Recover: 5 * time.Second,
	}
}

func TestSinkContract(t *testing.T) { SinkContract(t, memorySinkSetup("")) }

// The collecting sink keeps the contract that it stands in for.
func TestCollectingSink(t *testing.T) {
	SinkContract(t, SinkSetup[int]{
		New: func(testing.TB) SinkCase[int] {
			s := NewSink[int]()
			return SinkCase[int]{
				Sink:   func() flow.Sink[int] { return s },
				Stored: func(testing.TB) []int { return s.Values() },
			}
		},
		Record: func(id int) int { return id },
	})
}

// So does the simple sink made of a function.
func TestFuncSink(t *testing.T) {
	SinkContract(t, SinkSetup[int]{
		New: func(t testing.TB) SinkCase[int] {
			m := newMemory(t, 1)
			return SinkCase[int]{
				Sink: func() flow.Sink[int] {
					return flow.SinkFunc(func(_ context.Context, batch []flow.Record[int]) error {
						m.set(func() {
							for _, r := range batch {
								m.rows = append(m.rows, r.Value)
							}
						})
						return nil
					})
				},
				Stored: func(testing.TB) []int { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.rows) },
			}
		},
		Record: func(id int) int { return id }, NoEncoding: true,
	})
}

// sinkMutants are sinks that break one promise, by the check that must notice and a word of what it says.
var sinkMutants = []struct{ quirk, check, says string }{
	{"wrong is accepted", "wrong configuration", "accepts"},
	{"wrong is transient", "wrong configuration", "transient"},
	{"wrong without a word", "wrong configuration", "does not say"},
	{"open fails for good", "opens without its system", "fails for good"},
	{"open hangs", "opens without its system", "has not returned"},
	{"swaps records", "everything once in order", "written later"},
	{"keeps the batch", "write copies", "not stored"},
	{"keeps the batch", "everything once in order", "not stored"},
	{"writers share", "several writers", "not stored"},
	{"seal is slow", "seal", "Seal took"},
	{"seal talks", "seal", "Seal has not returned"},
	{"seals again", "seal", "were written and Seal returned"},
	{"seals nothing", "seal", "written nothing"},
	{"encoding overwrites", "encoding", "has not appended"},
	{"decode loses the last row", "encoding", "after its encoding"},
	{"decodes into one slice", "encoding", "not a block"},
	{"decode panics", "encoding", "panics"},
	{"decodes anything", "encoding", "for a block"},
	{"one refused takes the rest", "refused records", "were refused"},
	{"refused without a place", "refused records", "RecordError"},
	{"swallows the refused", "refused records", "were refused"},
	{"bad rows take the block", "refused records", "not stored"},
	{"rejects another block's row", "refused records", "a Reject of row"},
	{"rejects without the row", "refused records", "without the row"},
	{"rejects without a cause", "refused records", "without an error"},
	{"leaks", "leaves no goroutine", "outlive Close"},
	{"close hangs", "ends when told", "Close has not returned"},
	{"closes once", "ends when told", "Close, call 2"},
	{"deliver ignores the end", "ends when told", "Deliver has not returned"},
	{"says done without an answer", "ends when told", "cannot have reached"},
	{"says done without an answer", "error is transient", "cannot have reached"},
	{"deliver fails for good", "error is transient", "fails for good"},
	{"deliver hangs", "error is transient", "has not returned"},
	{"drops on retry", "fault cut", "not stored"},
	{"drops on retry", "fault reset", "not stored"},
	{"drops on retry", "fault half-open", "not stored"},
	{"repeats", "fault answers lost", "more than once"},
	{"sends in pieces without a token", "fault cut in the middle", "more than once"},
	{"swaps records", "fault slow", "written later"},
	{"stores half", "in a topology", "not stored"},
}

// TestSinkContractFinds proves of every check that it can fail.
func TestSinkContractFinds(t *testing.T) {
	checks := map[string]sinkCheck[item]{}
	unproved := map[string]bool{}
	for _, c := range sinkChecks[item]() {
		checks[c.name], unproved[c.name] = c, true
	}
	var mutants []mutant
	for _, m := range sinkMutants {
		delete(unproved, m.check)
		c := checks[m.check]
		mutants = append(mutants, mutant{
			name: m.quirk + "/" + m.check, alone: c.alone, says: m.says,
			check: func(t testing.TB) {
				s := memorySinkSetup(m.quirk)
				s.Count, s.Hold, s.Recover, s.patience = 120, 20*time.Millisecond, time.Second, hasty()
				s = s.withDefaults()
				c.run(t, &s)
			},
		})
	}
	mustFail(t, mutants)
	require.Empty(t, unproved, "checks of which nothing proves that they can fail")
}
