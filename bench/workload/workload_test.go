package workload_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow/codec"
)

type floor struct {
	name string
	job  workload.Job
	run  func(*workload.Generator, int64) workload.Result
}

func floors() []floor {
	return []floor{
		{"A", workload.A(), workload.FloorA},
		{"B10k", workload.B10k(), workload.FloorB},
		{"B10k in batches", workload.B10k(), workload.FloorBBatches},
		{"B1m", workload.B1m(), workload.FloorB},
		{"B1m in batches", workload.B1m(), workload.FloorBBatches},
		{"C", workload.C(), workload.FloorC},
		{"D", workload.D(), workload.FloorD},
		{"F", workload.F(), workload.FloorF},
	}
}

func TestFloorsComeOutAsGiven(t *testing.T) {
	t.Parallel()
	for _, f := range floors() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			got := f.run(workload.New(f.job), workload.N)
			require.NoError(t, f.job.Verify(workload.N, got))
			want, ok := f.job.Expected(workload.N)
			require.True(t, ok)
			digits := 3
			if f.name == "F" {
				digits = 1
			}
			require.Equal(t, fmt.Sprintf("%d %.*f", want.Out, digits, want.Sum), fmt.Sprintf("%d %.*f", got.Out, digits, got.Sum))
		})
	}
}

func TestVerifyFindsTheDifference(t *testing.T) {
	t.Parallel()
	for _, j := range workload.All() {
		want, ok := j.Expected(workload.N)
		require.True(t, ok, j.Name)
		require.NoError(t, j.Verify(workload.N, want))
		require.Error(t, j.Verify(workload.N, workload.Result{Out: want.Out + 1, Sum: want.Sum}))
		require.NoError(t, j.Verify(7, workload.Result{}), "nothing is known of 7 events")
		if want.Sum != 0 {
			require.Error(t, j.Verify(workload.N, workload.Result{Out: want.Out, Sum: want.Sum * (1 + 1e-6)}))
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	g := workload.New(workload.B10k())
	first, same := g.Next(0), g.Next(0)
	require.Equal(t, first, same)
	require.Equal(t, workload.Start, first.TS)
	require.Equal(t, workload.Start, first.Time().UnixMilli())
	require.Equal(t, "dev-0000042", g.Devices()[42])
	require.Equal(t, workload.Start+1000, g.Next(10_000).TS)
	for i := range int64(1000) {
		e := g.Next(i)
		require.Equal(t, i, e.Seq)
		require.GreaterOrEqual(t, e.Temperature, 20.0)
		require.Less(t, e.Temperature, 100.0)
		require.GreaterOrEqual(t, e.Humidity, 0.0)
		require.Less(t, e.Humidity, 100.0)
	}
}

func TestNoAllocations(t *testing.T) {
	g := workload.New(workload.F())
	var e workload.Event
	require.Zero(t, testing.AllocsPerRun(100, func() { g.Fill(77, &e) }))
	p := workload.NewPayloads(g)
	buf := make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = p.Append(buf[:0], 123_456_789) }))
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	g := workload.New(workload.D())
	original, repeat := g.Next(29), g.Next(39)
	require.Equal(t, original.Seq, g.Next(29).Seq)
	require.Equal(t, int64(29), repeat.Seq)
	require.NotEqual(t, original.TS, workload.Start+39*1000)
	require.Equal(t, g.Next(38).TS, repeat.TS, "its own time")
	repeat.TS = original.TS
	require.Equal(t, original, repeat)
}

type reading struct {
	DeviceID    string  `json:"deviceId"`
	TS          int64   `json:"ts"`
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
	FW          string  `json:"fw"`
	Seq         int64   `json:"seq"`
}

// TestPayloadsComeOutAsGiven runs job F over the payloads.
func TestPayloadsComeOutAsGiven(t *testing.T) {
	t.Parallel()
	j := workload.F()
	p := workload.NewPayloads(workload.New(j))
	c := codec.JSON[reading]()
	type window struct {
		device string
		minute int64
	}
	type stats struct{ sum, max, min, n float64 }
	windows := map[window]stats{}
	var buf []byte
	for i := range workload.N {
		buf = p.Append(buf[:0], i)
		var r reading
		if err := c.Decode(buf, &r); err != nil {
			t.Fatal(err)
		}
		if r.Seq != 1_000_000_000+i {
			t.Fatal("wrong number", string(buf))
		}
		k, v := window{r.DeviceID, r.TS / 60_000}, r.Temperature*1.8+32
		s, ok := windows[k]
		if !ok {
			s.max, s.min = v, v
		}
		windows[k] = stats{s.sum + v, max(s.max, v), min(s.min, v), s.n + 1}
	}
	got := workload.Result{Out: int64(len(windows))}
	for _, s := range windows {
		got.Sum += s.sum/s.n + s.max + s.min + s.n
	}
	require.NoError(t, j.Verify(workload.N, got))

	buf = p.Append([]byte("before "), 65_536)
	require.True(t, json.Valid(buf[7:]), string(buf))
	require.Contains(t, string(buf), `"fw":"1.4","seq":1000065536}`)
}

func BenchmarkFloor(b *testing.B) {
	for _, f := range floors() {
		b.Run(f.name, func(b *testing.B) {
			g := workload.New(f.job)
			b.ResetTimer()
			f.run(g, int64(b.N))
		})
	}
}
