package iotbench_test

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/iotbench"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
)

type row = iotbench.Row

// results runs a benchmark over n events.
func results(t *testing.T, name string, size iotbench.Size, n int64) []row {
	t.Helper()
	at := slices.IndexFunc(iotbench.All(), func(b iotbench.Benchmark) bool { return b.Name == name })
	require.GreaterOrEqual(t, at, 0)
	b := iotbench.All()[at]
	var rows []row
	top := flow.New("iotbench", flow.WithStore(state.InMemory()), flow.WithParallelism(1))
	iotbench.To(b.Add(top, harness.NewLoad(0, 0, 0, n), size), func() flow.Sink[row] {
		return flow.SinkFunc(func(_ context.Context, batch []flow.Record[row]) error { // in one task
			for i := range batch {
				rows = append(rows, batch[i].Value)
			}
			return nil
		})
	})
	require.NoError(t, top.Run(t.Context()))
	require.NotEmpty(t, rows)
	for _, r := range rows {
		require.GreaterOrEqual(t, r.N, int64(0))
		require.Less(t, r.N, n)
	}
	return sorted(rows)
}

func sorted(rows []row) []row {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(a.At, b.At), cmp.Compare(a.Key, b.Key), cmp.Compare(a.N, b.N))
	})
	return rows
}

// same compares rows, values to within rounding.
func same(t *testing.T, want, got []row) {
	t.Helper()
	sorted(want)
	require.Len(t, got, len(want))
	for i := range want {
		w, g := want[i], got[i]
		for _, p := range [][2]*float64{{&w.Value, &g.Value}, {&w.Least, &g.Least}, {&w.Most, &g.Most}, {&w.Variance, &g.Variance}} {
			if d := *p[0] - *p[1]; d < 1e-6 && d > -1e-6 {
				*p[1] = *p[0]
			}
		}
		require.Equal(t, w, g, "row %d", i)
	}
}

// begin is the event time of event 0.
const begin int64 = 1_767_225_600_000

func TestBegin(t *testing.T) {
	require.Equal(t, begin, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
}

// group puts values by key.
func group[K comparable, T any](all []T, key func(T) K) map[K][]T {
	m := map[K][]T{}
	for _, v := range all {
		m[key(v)] = append(m[key(v)], v)
	}
	return m
}
