package file

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type site struct {
	ID       string        `csv:"site" json:"site" yaml:"site"`
	Name     string        `json:"name" yaml:"name"`
	Limit    *float64      `json:"limit" yaml:"limit"`
	Interval time.Duration `json:"interval" yaml:"interval"`
}

func siteID(s site) string { return s.ID }

func named(s site) error {
	if s.Name == "" {
		return fmt.Errorf("site %s has no name: give it one", s.ID)
	}
	return nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func limit(x float64) *float64 { return &x }

func TestFormats(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"sites.csv":  "\xef\xbb\xbfsite,interval,name,limit\na,1m,Hall,30.5\nb,1s,\"Gate, north\",\n",
		"sites.tsv":  "site\tinterval\tname\tlimit\na\t1m\tHall\t30.5\nb\t1s\tGate, north\t\n",
		"sites.json": `[{"site":"a","name":"Hall","limit":30.5,"interval":60000000000},` + "\n" + `{"site":"b","name":"Gate, north","interval":1000000000}]`,
		"sites.yml":  "- {site: a, name: Hall, limit: 30.5, interval: 1m}\n- site: b\n  name: Gate, north\n  interval: 1s\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), name)
			write(t, path, text)
			table, err := New(Config{Path: path}, siteID, Check(named))
			require.NoError(t, err)
			require.Equal(t, 2, table.Len())
			vals, found := make([]site, 3), make([]bool, 3)
			require.NoError(t, table.Lookup(t.Context(), []string{"b", "c", "a"}, vals, found))
			require.Equal(t, []bool{true, false, true}, found)
			require.Equal(t, []site{{"b", "Gate, north", nil, time.Second}, {}, {"a", "Hall", limit(30.5), time.Minute}}, vals)
			got, ok := table.Get("a")
			require.True(t, ok)
			require.Equal(t, vals[2], got)
		})
	}
}

func TestBadFilesAreRefusedWithLineAndCure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ext, text, want string }{
		{"csv", "", "it is empty: begin it with a line of column names"},
		{"csv", "site,interval,name\na,1m,Hall\n", `line 1: field Limit has no column "limit" among site, interval, name`},
		{"csv", "site,interval,name,limit,label\n", `line 1: no field takes column "label": add one, or leave the column out`},
		{"csv", "site,interval,name,limit,name\n", `line 1: column "name" comes twice`},
		{"csv", "site,interval,name,limit\na,1m,Hall,30\nb,soon,Gate,1\n", `line 3: column "interval": "soon" is no time.Duration`},
		{"csv", "site,interval,name,limit\na,1m,Hall,x\n", `line 2: column "limit": "x" is no float64: invalid syntax`},
		{"csv", "site,interval,name,limit\na,1m,Hall\n", "record on line 2: wrong number of fields"},
		{"csv", "site,interval,name,limit\na,1m,Hall,\nb,1m,,\n", "line 3: site b has no name"},
		{"csv", "site,interval,name,limit\na,1m,\"Ha\nll\",\na,1m,Gate,\n", "line 4: key a is in line 2 already: take one of them out"},
		{"csv", "site,interval,name,limit\n", "it has 0 rows, fewer than min_rows (1): is it cut off?"},
		{"json", "[\n{\"site\":\"a\",\"name\":\"Hall\"},\n{\"site\":7}]", "line 3: json: cannot unmarshal number"},
		{"json", "[\n{\"site\":\"a\",\"name\":\"Hall\"},\n{\"site\":\"b\",\"label\":\"Gate\"}]", `line 3: json: unknown field "label"`},
		{"json", "[\n{\"site\":\"a\",\"name\":\"Hall\"},\n{\"site\":", "line 3: it ends within the array: is it cut off?"},
		{"json", "[\n{\"site\":\"a\",\"name\":\"Hall\"}\n", "line 3: it ends within the array: is it cut off?"},
		{"json", "[\n{\"site\":\"a\" \"name\":\"Hall\"}]", "line 2: invalid character"},
		{"json", "\n{}", "line 2: it begins with {: make it an array of objects"},
		{"json", "[{\"site\":\"a\",\"name\":\"Hall\"}]\n[]", "line 2: it goes on behind the array"},
		{"json", "", "it ends within the array"},
		{"yaml", "", "it is empty"},
		{"yaml", "site: a\n", "line 1: it is not one sequence"},
		{"yaml", "- site: a\n  name: Hall\n- site: b\n  label: Gate\n", `[4:3] unknown field "label"`},
		{"yaml", "- site: a\n  name: Hall\n- site: [\n", "[3:"},
		{"yaml", "- site: a\n  name: Hall\n- site: a\n  name: Gate\n", "line 3: key a is in line 1 already"},
	} {
		path := filepath.Join(t.TempDir(), "sites."+c.ext)
		write(t, path, c.text)
		_, err := New(Config{Path: path}, siteID, Check(named))
		require.ErrorContains(t, err, c.want, c.text)
		require.ErrorContains(t, err, path)
	}
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"path is empty":                    {},
		"format \"txt\" is not known":      {Path: "sites.txt"},
		"max_bytes is negative":            {Path: "sites.csv", MaxBytes: -1},
		"put the file back":                {Path: filepath.Join(t.TempDir(), "none.csv")},
		"is not a file":                    {Path: t.TempDir(), Format: "csv"},
		"more than max_bytes allows (1)":   {Path: "table_test.go", Format: "csv", MaxBytes: 1},
		"begin it with a line of column n": {Path: os.DevNull + "x", Format: "csv"},
	} {
		if strings.HasPrefix(cfg.Path, os.DevNull) {
			cfg.Path = filepath.Join(t.TempDir(), "empty")
			write(t, cfg.Path, "")
		}
		_, err := New(cfg, siteID)
		require.ErrorContains(t, err, want)
	}
	_, err := New[string, site](Config{Path: "x.csv"}, nil)
	require.ErrorContains(t, err, "key function is nil")
	path := filepath.Join(t.TempDir(), "x.csv")
	write(t, path, "a\n1\n")
	_, err = New(Config{Path: path}, func(n int) int { return n })
	require.ErrorContains(t, err, "a row cannot be a int")
	_, err = New(Config{Path: path}, func(v struct{ A map[string]int }) int { return len(v.A) })
	require.ErrorContains(t, err, "field A: a map[string]int cannot be read from text")
	write(t, path, "a,b\n1,2\n")
	table, err := New(Config{Path: path, AllowUnknown: true}, func(v struct{ A int }) int { return v.A })
	require.NoError(t, err)
	require.Equal(t, 1, table.Len())
	write(t, path, "a\n")
	table, err = New(Config{Path: path, MinRows: -1}, func(v struct{ A int }) int { return v.A })
	require.NoError(t, err)
	require.Zero(t, table.Len())
}

// watched runs a table's watch on a clock of the test.
type watched struct {
	clock *flowtest.Clock
	mu    sync.Mutex
	log   bytes.Buffer
	count map[string]int64
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *watched) add(name string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count[name] += n
}

func (w *watched) counter(name string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[name]
}

func (w *watched) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func watch(t *testing.T, table *Table[string, site]) (*watched, func()) {
	t.Helper()
	w := &watched{clock: flowtest.NewClock(time.Now().Add(-time.Hour)), count: map[string]int64{}}
	stop := table.watch(host{w.clock, slog.New(slog.NewTextHandler(w, nil)), w.add})
	return w, stop
}

// tick lets the table look at the file once.
func (w *watched) tick(t *testing.T) {
	t.Helper()
	sleeps := func() bool { return w.clock.Sleepers() == 1 }
	require.Eventually(t, sleeps, 10*time.Second, time.Millisecond)
	w.clock.Advance(5 * time.Second)
	require.Eventually(t, sleeps, 10*time.Second, time.Millisecond)
}

func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sites.csv")
	const head = "site,interval,name,limit\n"
	write(t, path, head+"a,1m,Hall,\n")
	table, err := New(Config{Path: path}, siteID, Check(named))
	require.NoError(t, err)
	w, stop := watch(t, table)
	_, also := watch(t, table) // by a second node: one watch for both
	name := func() string { s, _ := table.Get("a"); return s.Name }

	w.tick(t)
	require.Zero(t, w.counter("table_reloads"))
	write(t, path, head+"a,1m,Gate,\nb,1m,Roof,\n")
	w.tick(t)
	require.Equal(t, "Gate", name())
	require.EqualValues(t, 1, w.counter("table_reloads"))
	require.EqualValues(t, 2, w.counter("table_rows"))

	// A bad file leaves the old rows in force and is told once.
	write(t, path, head+"a,1m,,\n")
	w.tick(t)
	w.tick(t)
	w.tick(t)
	require.Equal(t, "Gate", name())
	require.EqualValues(t, 1, w.counter("table_reload_errors"))
	require.Contains(t, w.text(), "line 2: site a has no name: give it one")

	// So does one that is gone.
	require.NoError(t, os.Remove(path))
	w.tick(t)
	w.tick(t)
	require.Equal(t, "Gate", name())
	require.EqualValues(t, 2, w.counter("table_reload_errors"))
	require.Contains(t, w.text(), "put the file back")

	// The same rows as before the bad file are taken as new.
	write(t, path, head+"a,1m,Gate,\nb,1m,Roof,\n")
	w.tick(t)
	require.EqualValues(t, 2, w.counter("table_reloads"))

	// A change within the same tick of the file system's clock and of the same size is found by content.
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(head+"a,1m,Cave,\nb,1m,Roof,\n"), 0o600))
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	w.tick(t)
	require.Equal(t, "Cave", name())

	// A file that is not touched is not read again once its time is old.
	require.False(t, table.seen.sure)
	w.clock.Advance(2 * time.Hour)
	w.tick(t)
	require.True(t, table.seen.sure)
	stop()
	write(t, path, head+"a,1m,Last,\n")
	w.tick(t)
	require.Equal(t, "Last", name())
	also()
	also()
	stop()
	require.Zero(t, w.clock.Sleepers())
}

func TestReadOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sites.csv")
	write(t, path, "site,interval,name,limit\na,1m,Hall,\n")
	table, err := New(Config{Path: path, Every: -1}, siteID)
	require.NoError(t, err)
	w, stop := watch(t, table)
	require.Zero(t, w.clock.Sleepers())
	stop()
}

// TestEnrichFromAFile: the table is asked within the task and read anew while the topology runs.
func TestEnrichFromAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sites.json")
	write(t, path, `[{"site":"a","name":"Hall"}]`)
	table, err := New(Config{Path: path, Every: time.Second}, siteID)
	require.NoError(t, err)
	src, out := flowtest.NewSource[string]("0", "1"), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("file", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "site", table, func(v string) string { return v },
			func(v string, with site, found bool) (string, error) {
				if !found {
					return "", errors.New("unknown site")
				}
				return with.Name, nil
			}), "out", out)
		flow.To(top.DeadLetters(), "dead", flowtest.NewSink[flow.DeadLetter]())
		return top
	}, src)
	src.Feed("a", "b")
	r.Epoch()
	require.Equal(t, []string{"Hall"}, out.Next())
	write(t, path, `[{"site":"a","name":"Gate"},{"site":"b","name":"Roof"}]`)
	require.Eventually(t, func() bool { r.Clock.Advance(time.Second); return table.Len() == 2 }, 10*time.Second, time.Millisecond)
	src.Feed("a", "b")
	r.Crash()
	r.Epoch()
	require.Equal(t, []string{"Gate", "Roof"}, out.Next())
	r.Stop()
}

func FuzzParse(f *testing.F) {
	f.Add("csv", []byte("site,interval,name,limit\na,1m,Hall,30.5\n"))
	f.Add("json", []byte(`[{"site":"a","name":"Hall","limit":30.5}]`))
	f.Add("yaml", []byte("- {site: a, name: Hall, limit: 30.5, interval: 1m}\n"))
	f.Fuzz(func(t *testing.T, format string, data []byte) {
		table := &Table[string, site]{cfg: Config{Path: "x", Format: format, MinRows: 1}, key: siteID}
		rows, err := table.parse(data)
		require.True(t, err != nil || len(rows) > 0)
	})
}

var _ operators.Lookup[string, site] = (*Table[string, site])(nil)

func BenchmarkGet(b *testing.B) {
	table := &Table[string, site]{}
	table.rows.Store(&map[string]site{"a": {Name: "Hall"}})
	b.ReportAllocs()
	for b.Loop() {
		table.Get("a")
	}
}
