package operators_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

func sumOf(acc, v event) event { return event{v.Key, acc.N + v.N, max(acc.At, v.At)} }

// word is state that refers to memory of its own: it is stored by CBOR, each key for itself.
type word struct {
	Key    string
	Seen   []int64
	Counts map[int64]int
}

func spell(acc word, v event) word {
	w := word{v.Key, append(slices.Clone(acc.Seen), v.N), maps.Clone(acc.Counts)}
	if w.Counts == nil {
		w.Counts = map[int64]int{}
	}
	w.Counts[v.N%3]++
	return w
}

func TestReduceInAllModes(t *testing.T) {
	in := events(11, 60, 7)
	var want []event
	sums := map[string]event{}
	for _, e := range in {
		if acc, ok := sums[e.Key]; ok {
			e = sumOf(acc, e)
		}
		sums[e.Key] = e
		want = append(want, e)
	}
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, event]{
		Inputs: in, Key: event.key, Want: want,
		Build: func(s flow.Stream[event]) flow.Stream[event] {
			return operators.Reduce(flow.KeyBy(s, event.key), "sum", sumOf)
		},
	})
}

func TestScanInAllModes(t *testing.T) {
	t.Run("flat", func(t *testing.T) {
		type acc struct {
			key  string
			n    int
			last [2]int64
		}
		flowtest.CheckOperator(t, flowtest.OperatorCheck[event, acc]{
			Inputs: events(12, 60, 7), Key: func(a acc) string { return a.key },
			Build: func(s flow.Stream[event]) flow.Stream[acc] {
				return operators.Scan(flow.KeyBy(timed(s), event.key), "scan", func(a acc, e event) acc {
					return acc{e.Key, a.n + 1, [2]int64{a.last[1], e.N}}
				}, operators.IdleTTL(30*time.Second))
			},
		})
	})
	t.Run("an entry per key", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[event, word]{
			Inputs: events(13, 60, 7), Key: func(w word) string { return w.Key },
			Build: func(s flow.Stream[event]) flow.Stream[word] {
				return operators.Scan(flow.KeyBy(timed(s), event.key), "scan", spell, operators.IdleTTL(20*time.Second))
			},
		})
	})
}

func TestIdleTTLForgetsAKeyInEventTime(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, event]{
		// The watermark is 5 s and 1 ns behind. The late records of "a" come at the watermarks 5, 10 and 13 (less 1 ns), which count as its use:
		// so it is kept, until the watermark reaches 23 with the record of "b" at 40.
		Inputs: []event{{"a", 1, 0}, {"b", 1, 10}, {"a", 2, 1}, {"b", 1, 15}, {"a", 4, 2}, {"b", 1, 18}, {"a", 8, 3}, {"b", 1, 40}, {"a", 16, 41}},
		Want:   []event{{"a", 1, 0}, {"b", 1, 10}, {"a", 3, 1}, {"b", 2, 15}, {"a", 7, 2}, {"b", 3, 18}, {"a", 15, 3}, {"b", 4, 40}, {"a", 16, 41}},
		Key:    event.key,
		Build: func(s flow.Stream[event]) flow.Stream[event] {
			return operators.Reduce(flow.KeyBy(timed(s), event.key), "sum", sumOf, operators.IdleTTL(10*time.Second))
		},
	})
}

// A fold that panics leaves nothing behind, wherever in a batch it stands.
func TestReduceThatPanics(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, event]{
		Inputs: []event{{"a", 1, 0}, {"a", -1, 1}, {"a", 2, 2}, {"b", -1, 3}, {"b", 5, 4}, {"b", -1, 5}, {"a", 4, 6}},
		Want:   []event{{"a", 1, 0}, {"a", 3, 2}, {"b", -1, 3}, {"b", -2, 5}, {"a", 7, 6}},
		Key:    event.key,
		Build: func(s flow.Stream[event]) flow.Stream[event] {
			return operators.Reduce(flow.KeyBy(s, event.key), "sum", func(acc, v event) event {
				if v.N < 0 && acc.Key == "a" || v.N == 5 {
					panic("no")
				}
				return sumOf(acc, v)
			}, flow.OnError(flow.DropOnError))
		},
	})
}

func TestReduceAndScanRefuse(t *testing.T) {
	top := flow.New("wrong", flow.WithStore(state.InMemory()))
	in := flow.KeyBy(flow.From(top, "in", flowtest.NewSource[event]()), event.key)
	discard := func(name string, s flow.Stream[event]) { flow.To(s, name, flowtest.NewSink[event]()) }
	discard("a", operators.Reduce(in, "nil", nil))
	discard("b", operators.Reduce(in, "ttl", sumOf, operators.IdleTTL(-1)))
	discard("c", operators.Reduce(in, "untimed", sumOf, operators.IdleTTL(time.Second)))
	scanned := operators.Scan(in, "func", func(acc func(), _ event) func() { return acc })
	discard("d", operators.Map(scanned, "back", func(context.Context, func()) (event, error) { return event{}, nil }))
	discard("e", operators.Dedup(in, "dedup", event.n, time.Minute, operators.IdleTTL(time.Second)).Unkeyed())
	err := top.Validate()
	require.True(t, errors.Is(err, flow.ErrInvalid))
	for _, say := range []string{
		`"nil": its function is nil`, `"ttl": IdleTTL(-1ns) is not positive`, `"untimed": the operator needs event time`,
		`"func": its state cannot be stored`, `"dedup": an option for`,
	} {
		require.ErrorContains(t, err, say)
	}
}
