package nexmark_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/nexmark"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
)

var (
	update = flag.Bool("update", false, "rewrite the expected results")
	large  = flag.Bool("large", false, "check the large sets of expected results, too")
)

// set is what the queries give of some events. Programs in other languages read the file and hold themselves to it.
type set struct {
	Seed   uint64  `json:"seed"`
	Rate   float64 `json:"rate"`
	Events int64   `json:"events"`
	// Generator is the chain of the checksums of all events.
	Generator string            `json:"generator"`
	Queries   map[string]result `json:"queries"`
}

type result struct {
	Count    int64  `json:"count"`
	Checksum string `json:"checksum"`
}

const expectedFile = "testdata/expected.json"

// TestExpected checks the file of expected results, the small set of them without -large.
func TestExpected(t *testing.T) {
	text, err := os.ReadFile(expectedFile)
	require.NoError(t, err)
	var sets []set
	require.NoError(t, json.Unmarshal(text, &sets))
	for i := range sets {
		if sets[i].Events > 100_000 && !*large && !*update {
			continue
		}
		got := set{Seed: sets[i].Seed, Rate: sets[i].Rate, Events: sets[i].Events, Queries: map[string]result{}}
		got.Generator = generated(got)
		for _, q := range nexmark.Queries() {
			if !q.ByClock {
				got.Queries[q.Name] = answer(t, q, got)
			}
		}
		if *update {
			sets[i] = got
		}
		require.Equal(t, sets[i], got)
	}
	if *update {
		text, err := json.MarshalIndent(sets, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(expectedFile, append(text, '\n'), 0o600))
	}
}

func generated(s set) string {
	g, sum := nexmark.New(s.Seed, s.Rate), uint64(0)
	var e event
	for i := range s.Events {
		g.Fill(i, &e)
		sum = sum*31 + e.Checksum()
	}
	return fmt.Sprintf("%016x", sum)
}

// answer runs a query as the scenarios do, in one task.
func answer(t *testing.T, q nexmark.Query, s set) result {
	top := flow.New("nexmark", flow.WithLogger(slog.New(slog.DiscardHandler)), flow.WithStore(state.InMemory()), flow.WithParallelism(1))
	events := flow.From(top, "events", harness.From(harness.NewLoad(0, 0, time.Hour, s.Events), nexmark.New(s.Seed, s.Rate).Fill))
	var n int64
	var sum uint64
	flow.To(q.Build(events), "out", flow.SinkFunc(func(_ context.Context, rows []flow.Record[row]) error {
		n += int64(len(rows))
		for i := range rows {
			sum += rows[i].Value.Checksum()
		}
		return nil
	}))
	require.NoError(t, top.Run(t.Context()))
	return result{n, fmt.Sprintf("%016x", sum)}
}
