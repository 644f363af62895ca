package gen_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sources/gen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// intake is the engine's side: it keeps what is emitted, and may end the reading.
type intake struct {
	batches [][]flow.Record[int64]
	upTo    []flow.Position
	refs    []time.Time
	lag     []int64
	idle    int
	buffer  []flow.Record[int64]
	// onEmit is called after each batch; its error goes to the source.
	onEmit func() error
}

func (in *intake) Buffer() []flow.Record[int64] {
	if in.buffer == nil {
		in.buffer = make([]flow.Record[int64], 0, flow.MaxBatch)
	}
	return in.buffer[:0]
}

func (in *intake) Emit(ctx context.Context, batch []flow.Record[int64], upTo flow.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in.batches = append(in.batches, append([]flow.Record[int64](nil), batch...))
	in.upTo = append(in.upTo, upTo)
	if in.onEmit != nil {
		return in.onEmit()
	}
	return nil
}

func (in *intake) Reject([]byte, error, flow.Position) {}
func (in *intake) Reference(t time.Time)               { in.refs = append(in.refs, t) }
func (in *intake) Idle()                               { in.idle++ }
func (in *intake) Busy()                               {}
func (in *intake) Lag(n int64)                         { in.lag = append(in.lag, n) }
func (in *intake) Window(int)                          {}

func (in *intake) values() []int64 {
	all := []int64{}
	for _, b := range in.batches {
		for _, r := range b {
			all = append(all, r.Value)
		}
	}
	return all
}

// clock stands still but for Sleep.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	slept  []time.Duration
	onStep func()
}

func (c *clock) Now() time.Time                    { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) NewTimer(time.Duration) flow.Timer { panic("not used") }

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.slept = append(c.slept, d)
	c.mu.Unlock()
	if c.onStep != nil {
		c.onStep()
	}
	return ctx.Err()
}

type assign struct{ added []flow.Partition }

func (a *assign) Add(p ...flow.Partition) error                   { a.added = append(a.added, p...); return nil }
func (a *assign) Remove(context.Context, ...flow.Partition) error { return nil }

type bundle struct {
	src   flow.Source[int64]
	clock *clock
	in    *intake
}

func setup(t *testing.T, src flow.Source[int64]) *bundle {
	t.Helper()
	b := &bundle{src: src, clock: &clock{now: time.Unix(1000, 0)}, in: &intake{}}
	require.NoError(t, src.Open(t.Context(), flow.SourceRuntime{Topology: "t", Node: "gen", Clock: b.clock}))
	t.Cleanup(func() { require.NoError(t, src.Close(context.Background())) })
	return b
}

func (b *bundle) read(t *testing.T, partition string, from flow.Position) error {
	t.Helper()
	return b.src.Read(t.Context(), flow.Partition{ID: partition}, from, flow.NewIntake[int64](b.in))
}

func number(i int64) int64 { return i }

func sequence(from, step, n int64) []int64 {
	all := []int64{}
	for i := range n {
		all = append(all, from+i*step)
	}
	return all
}

func TestBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number, gen.Count(2500)))
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.Equal(t, sequence(0, 1, 2500), b.in.values())
	require.Equal(t, []flow.Position{{Offset: 1024}, {Offset: 2048}, {Offset: 2500}}, b.in.upTo)
	require.Equal(t, []int64{1476, 452, 0, 0}, b.in.lag)
	require.Equal(t, flow.None, b.in.batches[0][0].Time)
	require.Empty(t, b.in.refs)
	require.Empty(t, b.clock.slept)
	require.Equal(t, flow.Seek, b.src.Replay())
	require.NoError(t, b.src.Commit(t.Context(), flow.Partition{ID: "0"}, flow.Position{Offset: 5}))
}

func TestSeek(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number, gen.Count(2500)))
	require.NoError(t, b.read(t, "0", flow.Position{Offset: 2048}))
	require.Equal(t, sequence(2048, 1, 452), b.in.values())
	require.NoError(t, b.read(t, "0", flow.Position{Offset: 2500}), "at the end")
	require.Len(t, b.in.batches, 1)
}

func TestPartitions(t *testing.T) {
	t.Parallel()
	src := gen.Source(number, gen.Count(10), gen.Partitions(3))
	fixed, ok := src.(flow.FixedPartitions)
	require.True(t, ok)
	require.Equal(t, 3, fixed.Partitions())
	b := setup(t, src)
	a := &assign{}
	require.NoError(t, src.Run(t.Context(), a))
	require.Equal(t, []flow.Partition{{ID: "0"}, {ID: "1"}, {ID: "2"}}, a.added)
	want := map[string][]int64{"0": {0, 3, 6, 9}, "1": {1, 4, 7}, "2": {2, 5, 8}}
	for id, values := range want {
		b.in = &intake{}
		require.NoError(t, b.read(t, id, flow.Position{}))
		require.Equal(t, values, b.in.values())
		last := b.in.upTo[0]
		require.Equal(t, values[len(values)-1]+3, last.Offset)
		b.in = &intake{}
		require.NoError(t, b.read(t, id, last))
		require.Empty(t, b.in.batches)
		last.Offset = values[1]
		require.NoError(t, b.read(t, id, last))
		require.Equal(t, values[1:], b.in.values())
	}
}

func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	t.Parallel()
	one := setup(t, gen.Source(number, gen.Count(100)))
	four := setup(t, gen.Source(number, gen.Count(100), gen.Partitions(4)))
	require.NoError(t, one.read(t, "0", flow.Position{}))
	require.NoError(t, four.read(t, "0", flow.Position{}))
	require.ErrorContains(t, four.read(t, "0", one.in.upTo[0]), "gen.Partitions")
	require.ErrorContains(t, one.read(t, "0", four.in.upTo[0]), "gen.Partitions")
	require.ErrorContains(t, one.read(t, "1", flow.Position{}), "gen.Partitions")
	require.ErrorContains(t, one.read(t, "x", flow.Position{}), "gen.Partitions")
}

func TestEndlessStopsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number))
	stop := errors.New("topology stops")
	b.in.onEmit = func() error {
		if len(b.in.batches) == 3 {
			return stop
		}
		return nil
	}
	require.ErrorIs(t, b.read(t, "0", flow.Position{}), stop)
	require.Len(t, b.in.values(), 3*flow.MaxBatch)
	require.Empty(t, b.in.lag, "nobody knows how much is left")

	b = setup(t, gen.Source(number, gen.Rate(0.001)))
	ctx, cancel := context.WithCancel(t.Context())
	b.clock.onStep = cancel
	err := b.src.Read(ctx, flow.Partition{ID: "0"}, flow.Position{}, flow.NewIntake[int64](b.in))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []int64{0}, b.in.values())
	require.Equal(t, 1, b.in.idle)
}

func TestRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.5, 3, 999, 10_000, 3_000_000} {
		t.Run(strconv.FormatFloat(rate, 'f', -1, 64), func(t *testing.T) {
			t.Parallel()
			b := setup(t, gen.Source(number, gen.Rate(rate), gen.Count(20_000)))
			began := b.clock.Now()
			b.in.onEmit = func() error {
				elapsed := b.clock.Now().Sub(began).Seconds()
				last := b.in.upTo[len(b.in.upTo)-1].Offset - 1
				require.LessOrEqual(t, float64(last)/rate, elapsed+1e-6, "never early")
				return nil
			}
			require.NoError(t, b.read(t, "0", flow.Position{}))
			require.Equal(t, sequence(0, 1, 20_000), b.in.values())
			took := b.clock.Now().Sub(began).Seconds()
			require.InDelta(t, 19_999/rate, took, 0.0021, "no drift")
			require.LessOrEqual(t, len(b.clock.slept), int(took*1000)+20_002, "at most a wait per millisecond and record")
		})
	}
}

func TestRateOverPartitions(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number, gen.Rate(1000), gen.Partitions(4), gen.Count(8000)))
	began := b.clock.Now()
	require.NoError(t, b.read(t, "3", flow.Position{}))
	require.Equal(t, sequence(3, 4, 2000), b.in.values())
	require.InDelta(t, 8, b.clock.Now().Sub(began).Seconds(), 0.01)
}

// TestRateCatchesUp has a topology that takes nothing for ten seconds.
func TestRateCatchesUp(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number, gen.Rate(1000), gen.Count(20_000)))
	began := b.clock.Now()
	b.in.onEmit = func() error {
		if len(b.in.batches) == 1 {
			require.NoError(t, b.clock.Sleep(t.Context(), 10*time.Second))
		}
		return nil
	}
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.InDelta(t, 20, b.clock.Now().Sub(began).Seconds(), 0.01)
	require.Len(t, b.in.batches[1], flow.MaxBatch, "what is overdue comes in full batches")
	require.Equal(t, int64(10_000-flow.MaxBatch), b.in.lag[1])
}

func TestStamp(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Source(number, gen.Rate(1), gen.Count(3), gen.Stamp()))
	began := b.clock.Now()
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.Equal(t, []time.Time{began, began.Add(time.Second), began.Add(2 * time.Second)}, b.in.refs)
	require.Equal(t, flow.None, b.in.batches[2][0].Time)
}

func TestFuncEmitsAnyNumber(t *testing.T) {
	t.Parallel()
	several := gen.Func(func(i int64, emit func(int64)) {
		for range i % 4 {
			emit(i)
		}
	}, gen.Count(3000))
	b := setup(t, several)
	require.NoError(t, b.read(t, "0", flow.Position{}))
	all := b.in.values()
	want := []int64{}
	for i := range int64(3000) {
		for range i % 4 {
			want = append(want, i)
		}
	}
	require.Equal(t, want, all)
	emitted := 0
	for n, batch := range b.in.batches {
		require.LessOrEqual(t, len(batch), flow.MaxBatch)
		emitted += len(batch)
		again := &bundle{src: several, clock: b.clock, in: &intake{}}
		require.NoError(t, again.read(t, "0", b.in.upTo[n]))
		require.Equal(t, want[emitted:], again.in.values(), "each position continues exactly behind its batch")
	}
}

func TestFuncThatEmitsNothingMovesOn(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Func(func(int64, func(int64)) {}, gen.Count(5000)))
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.Empty(t, b.in.values())
	require.Equal(t, flow.Position{Offset: 5000}, b.in.upTo[len(b.in.upTo)-1])
}

func TestFuncThatEmitsTooMuch(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Func(func(i int64, emit func(int64)) {
		for range i * 600 {
			emit(i)
		}
	}, gen.Count(3)))
	require.ErrorContains(t, b.read(t, "0", flow.Position{}), "1200 records for number 2")
}

func TestSlice(t *testing.T) {
	t.Parallel()
	b := setup(t, gen.Slice[int64](5, 6, 7))
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.Equal(t, []int64{5, 6, 7}, b.in.values())
	b = setup(t, gen.Slice[int64]())
	require.NoError(t, b.read(t, "0", flow.Position{}))
	require.Empty(t, b.in.batches)
}

func TestWrongOptionsFailAtOpen(t *testing.T) {
	t.Parallel()
	for want, src := range map[string]flow.Source[int64]{
		"gen.Count(-1)":     gen.Source(number, gen.Count(-1)),
		"gen.Rate(0)":       gen.Source(number, gen.Rate(0)),
		"gen.Rate(NaN)":     gen.Source(number, gen.Rate(math.NaN())),
		"gen.Partitions(0)": gen.Source(number, gen.Partitions(0)),
		"next is nil":       gen.Source[int64](nil),
		"f is nil":          gen.Func[int64](nil),
	} {
		require.ErrorContains(t, src.Open(t.Context(), flow.SourceRuntime{}), want)
	}
}

func TestNoAllocationsPerRecord(t *testing.T) {
	for name, src := range map[string]flow.Source[int64]{
		"source": gen.Source(number, gen.Count(100_000)),
		"func":   gen.Func(func(i int64, emit func(int64)) { emit(i) }, gen.Count(100_000)),
	} {
		require.NoError(t, src.Open(t.Context(), flow.SourceRuntime{Clock: &clock{}}))
		in := flow.NewIntake[int64](&drop{buffer: make([]flow.Record[int64], 0, flow.MaxBatch)})
		n := testing.AllocsPerRun(1, func() { _ = src.Read(t.Context(), flow.Partition{ID: "0"}, flow.Position{}, in) })
		require.Less(t, n, 150.0, "%s: some per batch or run", name)
	}
}

// drop takes everything and keeps nothing.
type drop struct {
	intake
	buffer []flow.Record[int64]
}

func (d *drop) Buffer() []flow.Record[int64]                                    { return d.buffer[:0] }
func (d *drop) Emit(context.Context, []flow.Record[int64], flow.Position) error { return nil }
func (d *drop) Lag(int64)                                                       {}

func TestRandom(t *testing.T) {
	t.Parallel()
	a, b, c := gen.At(1, 7), gen.At(1, 7), gen.At(2, 7)
	require.Equal(t, a.Uint64(), b.Uint64())
	require.NotEqual(t, a.Uint64(), c.Uint64())
	counts := [10]int{}
	sum, hits := 0.0, 0
	const n = 100_000
	for i := range int64(n) {
		r := gen.At(42, i)
		counts[r.IntN(10)]++
		sum += r.Float64()
		if r.Chance(0.05) {
			hits++
		}
	}
	for _, c := range counts {
		require.InDelta(t, n/10, c, n/100)
	}
	require.InDelta(t, 0.5, sum/n, 0.01)
	require.InDelta(t, 0.05, float64(hits)/n, 0.005)
	r := gen.At(1, 1)
	require.Less(t, rand.New(&r).IntN(5), 5)
	require.Panics(t, func() { r.IntN(0) })
}
