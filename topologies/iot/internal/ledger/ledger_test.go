package ledger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.UnixMilli(1_700_000_040_000) // the begin of a minute

const minute = 1_700_000_040 / 60

// book writes a small ledger with everything in it.
func book(t *testing.T) *Ledger {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	w, err := Create(path, 7)
	require.NoError(t, err)
	at := start.UnixMilli()
	w.Count("dev-1", "site-001", at, 2000, start)
	w.Count("dev-1", "site-001", at+59_999, 2010, start)
	w.Count("dev-1", "site-001", at+60_000, 500, start)
	w.Count("dev-2", "site-002", at, -10, start)
	w.Flush(start.Add(time.Second))                 // the cells leave memory …
	w.Count("dev-1", "site-001", at+1, 2033, start) // … and one is opened again
	w.Duplicate()
	w.Heartbeat()
	w.Late("dev-1", 11)
	w.BadClock("dev-9", 12)
	w.Invalid("dev-2", 13)
	w.Malformed([]byte(`{"deviceId":"dev-`))
	w.Malformed([]byte{0xff, 0, '\n'})
	w.Malformed(nil)
	require.NoError(t, w.Close(0))
	l, err := Read(path)
	require.NoError(t, err)
	return l
}

// outcome is what the tables hold when all went well.
func outcome() *Outcome {
	return &Outcome{
		Rows: []Row{
			{Key: Key{"dev-1", minute}, Site: "site-001", Region: "R1", Count: 3, Avg: (20.00 + 20.10 + 20.33) / 3, Min: 20, Max: 20.33},
			{Key: Key{"dev-1", minute + 1}, Site: "site-001", Region: "R1", Count: 1, Avg: 5, Min: 5, Max: 5},
			{Key: Key{"dev-2", minute}, Site: "site-002", Region: "R2", Count: 1, Avg: -0.1, Min: -0.1, Max: -0.1},
		},
		Late:      []Event{{"dev-1", 11}, {"dev-1", 11}},
		BadClock:  []Event{{"dev-9", 12}},
		Invalid:   []Event{{"dev-2", 13}},
		Malformed: []string{"", `{"deviceId":"dev-`, "\xff\x00\n"},
	}
}

func region(site string) string { return "R" + site[len(site)-1:] }

func report(t *testing.T, l *Ledger, o *Outcome) string {
	var b strings.Builder
	require.NoError(t, Compare(l, o, region, 3).Write(&b))
	return b.String()
}

func TestBook(t *testing.T) {
	t.Parallel()
	l := book(t)
	require.EqualValues(t, 7, l.Seed)
	require.Equal(t, Totals{Published: 13, Counted: 5, Duplicates: 1, Heartbeats: 1, Malformed: 3, Invalid: 1, Late: 1, BadClock: 1}, l.Totals)
	require.Equal(t, map[Key]Cell{
		{"dev-1", minute}:     {Site: "site-001", Count: 3, Sum: 6043, Min: 2000, Max: 2033},
		{"dev-1", minute + 1}: {Site: "site-001", Count: 1, Sum: 500, Min: 500, Max: 500},
		{"dev-2", minute}:     {Site: "site-002", Count: 1, Sum: -10, Min: -10, Max: -10},
	}, l.Minutes)
	require.Equal(t, map[string]bool{"": true, `{"deviceId":"dev-`: true, "\xff\x00\n": true}, l.Malformed)
}

func TestMinutesBeforeTheEpoch(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, -1, floorDiv(-1, 60_000))
	require.EqualValues(t, -1, floorDiv(-60_000, 60_000))
	require.EqualValues(t, -2, floorDiv(-60_001, 60_000))
	require.EqualValues(t, 0, floorDiv(59_999, 60_000))
}

func TestExact(t *testing.T) {
	t.Parallel()
	out := report(t, book(t), outcome())
	require.Equal(t, ""+
		"                 expected      found    missing      extra  different\n"+
		"minute rows             3          3          0          0          0\n"+
		"late                    1          1          0          0          0\n"+
		"bad clock               1          1          0          0          0\n"+
		"invalid                 1          1          0          0          0\n"+
		"dead letters            3          3          0          0          0\n"+
		"exact\n", out)
}

func TestAverageInAnotherOrder(t *testing.T) {
	t.Parallel()
	o := outcome()
	o.Rows[0].Avg = (20.33 + 20.10 + 20.00) / 3 * (1 + 1e-12)
	require.True(t, Compare(book(t), o, region, 1).Exact())
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(o *Outcome)
		want   string
	}{
		"missing row": {func(o *Outcome) { o.Rows = o.Rows[1:] }, "minute rows: dev-1 2023-11-14 22:14: missing: count 3"},
		"extra row": {func(o *Outcome) {
			o.Rows = append(o.Rows, Row{Key: Key{"dev-3", minute}, Count: 1, Avg: 2, Min: 2, Max: 2})
		}, "minute rows: dev-3 2023-11-14 22:14: not in the ledger: count 1, avg 2, min 2, max 2"},
		"row twice":        {func(o *Outcome) { o.Rows = append(o.Rows, o.Rows[0]) }, "minute rows: dev-1 2023-11-14 22:14: a second row under FINAL: count 3"},
		"count":            {func(o *Outcome) { o.Rows[0].Count = 4 }, "minute rows: dev-1 2023-11-14 22:14: count is 4, must be 3"},
		"avg":              {func(o *Outcome) { o.Rows[1].Avg = 5.00000001 }, "minute rows: dev-1 2023-11-14 22:15: avg is 5.00000001, must be 5"},
		"avg not a number": {func(o *Outcome) { o.Rows[1].Avg = nan() }, "minute rows: dev-1 2023-11-14 22:15: avg is NaN, must be 5"},
		"min":              {func(o *Outcome) { o.Rows[2].Min = 0.1 }, "minute rows: dev-2 2023-11-14 22:14: min is 0.1, must be -0.1"},
		"max and region":   {func(o *Outcome) { o.Rows[2].Max, o.Rows[2].Region = 1, "X" }, "minute rows: dev-2 2023-11-14 22:14: max is 1, must be -0.1, region is X, must be R2"},
		"site":             {func(o *Outcome) { o.Rows[2].Site = "" }, "minute rows: dev-2 2023-11-14 22:14: site is , must be site-002"},
		"late missing":     {func(o *Outcome) { o.Late = nil }, "late: dev-1 seq 11: missing"},
		"late extra":       {func(o *Outcome) { o.Late = append(o.Late, Event{"dev-1", 12}) }, "late: dev-1 seq 12: not in the ledger"},
		"bad clock":        {func(o *Outcome) { o.BadClock = nil }, "bad clock: dev-9 seq 12: missing"},
		"invalid":          {func(o *Outcome) { o.Invalid[0].Seq = 14 }, "invalid: dev-2 seq 14: not in the ledger"},
		"bytes":            {func(o *Outcome) { o.Malformed[2] = "\xff\x00" }, `dead letters: "\xff\x00": not in the ledger`},
		"bytes missing":    {func(o *Outcome) { o.Malformed = o.Malformed[1:] }, `dead letters: "": missing`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := outcome()
			tt.change(o)
			out := report(t, book(t), o)
			require.Contains(t, out, tt.want+"\n")
			require.NotContains(t, out, "exact")
			require.Regexp(t, `\n[12] differences\n$`, out)
		})
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestExamplesAreLimited(t *testing.T) {
	t.Parallel()
	o := outcome()
	for i := range 10 {
		o.Late = append(o.Late, Event{"dev-5", int64(100 + i)})
	}
	out := report(t, book(t), o)
	require.Equal(t, 3, strings.Count(out, "late: dev-5"))
	require.Contains(t, out, "late: … and 7 more\n10 differences\n")
}

func TestUnackedIsNotExact(t *testing.T) {
	t.Parallel()
	l := book(t)
	l.Totals.Unacked = 2
	out := report(t, l, outcome())
	require.Contains(t, out, "2 published messages were never confirmed")
	require.NotContains(t, out, "exact")
}

func TestIncompleteLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := Create(path, 1)
	require.NoError(t, err)
	w.Late("dev-1", 1)
	require.NoError(t, w.Close(0))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for n := range len(text) - 2 {
		_, err := Decode(strings.NewReader(string(text[:n])))
		require.ErrorIs(t, err, ErrIncomplete, "%q", text[:n])
	}
	_, err = Decode(strings.NewReader(`{"is":"nonsense"}`))
	require.EqualError(t, err, `line 1: unknown kind "nonsense"`)
	_, err = Read(path + "-")
	require.ErrorContains(t, err, "no such file")
}
