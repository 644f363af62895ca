package clickhouse

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
)

// clock stands still until it is moved.
type clock struct {
	flow.Clock
	now time.Time
}

func (c *clock) Now() time.Time { return c.now }

func TestWriterCutsBlocksAndAsksForTheEpoch(t *testing.T) {
	t.Parallel()
	big := reading{Device: strings.Repeat("x", 1000)}
	for _, c := range []struct {
		name   string
		opts   []Option
		write  func(w flow.SinkWriter[reading], c *clock)
		blocks []int
		epochs int
	}{
		{"small", nil, func(w flow.SinkWriter[reading], _ *clock) { _ = w.Write(t.Context(), records(readings(0, 10)...)) }, []int{10}, 0},
		{"exactly full", []Option{MaxRows(10)}, func(w flow.SinkWriter[reading], _ *clock) { _ = w.Write(t.Context(), records(readings(0, 10)...)) }, []int{10}, 1},
		{"rows", []Option{MaxRows(10)}, func(w flow.SinkWriter[reading], _ *clock) { _ = w.Write(t.Context(), records(readings(0, 25)...)) }, []int{10, 10, 5}, 1},
		{"bytes", []Option{MaxBytes(5000)}, func(w flow.SinkWriter[reading], _ *clock) {
			for range 7 {
				_ = w.Write(t.Context(), records(big, big))
			}
		}, []int{6, 6, 2}, 1},
		{"large batch", []Option{MaxBytes(200_000)}, func(w flow.SinkWriter[reading], _ *clock) { _ = w.Write(t.Context(), records(readings(0, 20_000)...)) }, []int{5120, 5120, 5120, 4640}, 1},
		{"young", nil, func(w flow.SinkWriter[reading], c *clock) {
			_ = w.Write(t.Context(), records(big))
			c.now = c.now.Add(999 * time.Millisecond)
			_ = w.Write(t.Context(), records(big))
		}, []int{2}, 0},
		{"old", nil, func(w flow.SinkWriter[reading], c *clock) {
			_ = w.Write(t.Context(), records(big))
			for range 3 {
				c.now = c.now.Add(time.Second)
				_ = w.Write(t.Context(), records(big))
			}
		}, []int{4}, 1},
		{"age is the epoch's", []Option{MaxAge(0)}, func(w flow.SinkWriter[reading], c *clock) {
			_ = w.Write(t.Context(), records(big))
			c.now = c.now.Add(time.Hour)
			_ = w.Write(t.Context(), records(big))
		}, []int{2}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := offline(t, c.opts...)
			e, cl := &engine{}, &clock{now: time.Unix(0, 0)}
			rt := e.runtime()
			rt.Clock = cl
			k.start(rt)
			w, err := k.Writer(t.Context(), flow.TaskInfo{})
			require.NoError(t, err)
			for range 2 { // an epoch asks anew
				e.epochs = 0
				c.write(w, cl)
				blocks, err := w.Seal(t.Context())
				require.NoError(t, err)
				var rows []int
				for _, b := range blocks {
					rows = append(rows, b.Rows())
					require.Positive(t, b.Bytes())
				}
				require.Equal(t, c.blocks, rows)
				require.Equal(t, c.epochs, e.epochs)
			}
		})
	}
}

func TestRowFunctionPanics(t *testing.T) {
	t.Parallel()
	k := Sink(New(Config{}), "t", func(n int) reading {
		if n == 2 {
			panic("no such device")
		}
		return reading{Seq: uint64(n)}
	}, Version("v")).(*sink[int, reading])
	k.start(flow.SinkRuntime{})
	w, err := k.Writer(t.Context(), flow.TaskInfo{Generation: 7})
	require.NoError(t, err)
	batch := records(0, 1, 2, 3)
	var at *flow.RecordError
	require.ErrorAs(t, w.Write(t.Context(), batch), &at)
	require.Equal(t, 2, at.Index)
	require.ErrorIs(t, at, flow.ErrPanic)
	require.ErrorContains(t, at, "no such device")
	require.NoError(t, w.Write(t.Context(), batch[3:]))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	b := blocks[0].(*block)
	require.Equal(t, 3, b.rows)
	require.Equal(t, []uint64{7<<40 + 1, 7<<40 + 2, 7<<40 + 3}, b.cols[4].(*fixed[uint64]).data)
	_, err = k.Writer(t.Context(), flow.TaskInfo{Generation: 1 << 24})
	require.ErrorContains(t, err, "does not fit a version column")
}

// What a decoder put into a buffer that it uses again must not be seen by the sink later.
func TestWriterKeepsNothingOfTheRecords(t *testing.T) {
	t.Parallel()
	type row struct {
		B []byte `ch:"b"`
	}
	k := Rows[row](New(Config{}), "t").(*sink[row, row])
	k.start(flow.SinkRuntime{})
	buf := []byte("first")
	w, err := k.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), records(row{buf})))
	copy(buf, "again")
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"b":"first"}`, string(blocks[0].(*block).appendJSON(nil, 0)))
}

func TestWriteAllocatesNothingPerRecord(t *testing.T) {
	s := Sink(New(Config{}), "t", toBenchRow, MaxAge(0)).(*sink[benchReading, benchRow])
	s.start(flow.SinkRuntime{})
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	batches := benchBatches(4)
	round := func() {
		for _, b := range batches {
			require.NoError(t, w.Write(t.Context(), b))
		}
		blocks, err := w.Seal(t.Context())
		require.NoError(t, err)
		s.finish(&insert{segments: []segment{{blocks[0].(*block), 0}}})
	}
	round()
	require.Less(t, testing.AllocsPerRun(10, round), 20.0, "per 4,096 records and one block")
}

func TestBlockRoundTrip(t *testing.T) {
	t.Parallel()
	k := Rows[everything](New(Config{}), "t").(*sink[everything, everything])
	require.NoError(t, k.err)
	k.start(flow.SinkRuntime{StoreID: "s", Incarnation: 2, Node: "n"})
	rapid.Check(t, func(t *rapid.T) {
		rows := make([]everything, rapid.IntRange(1, 300).Draw(t, "rows"))
		for i := range rows {
			rows[i] = everyRow()[i%2]
			rows[i].S = rapid.String().Draw(t, "s")
			rows[i].Named = deviceID(rapid.SampledFrom([]string{"", "a", "b", rows[i].S}).Draw(t, "named"))
			rows[i].Nums = rapid.SliceOfN(rapid.Float64(), 0, 3).Draw(t, "nums")
		}
		w, err := k.Writer(t.Context(), flow.TaskInfo{})
		require.NoError(t, err)
		require.NoError(t, w.Write(t.Context(), records(rows...)))
		blocks, err := w.Seal(t.Context())
		require.NoError(t, err)
		want := blocks[0].(*block)
		data, err := want.AppendBinary(nil)
		require.NoError(t, err)
		decoded, err := k.DecodeBlock(data)
		require.NoError(t, err)
		got := decoded.(*block)
		require.Equal(t, want.token, got.token)
		require.Equal(t, want.times, got.times)
		require.Equal(t, want.schema(), got.schema())
		for i := range want.rows {
			require.Equal(t, string(want.appendJSON(nil, i)), string(got.appendJSON(nil, i)))
		}
		// The same bytes again: what a token names does not change.
		again, err := got.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, data, again)
		// Blocks of an outbox keep their token and go alone.
		require.NoError(t, k.plan([]flow.Block{got, want}))
		require.Len(t, k.pending, 2)
		require.Equal(t, want.token, k.pending[0].parts[0].token)
		k.pending = nil
		// Any two cuts of a block, put together, are the block.
		at := rapid.IntRange(0, want.rows).Draw(t, "cut")
		for i, c := range want.cols {
			joined, err := newColumn(string(c.Type()))
			require.NoError(t, err)
			joined.AppendRows(c, at, want.rows)
			joined.AppendRows(c, 0, at)
			joined.Truncate(want.rows)
			for r := range want.rows {
				require.Equal(t, string(c.AppendJSON(nil, (r+at)%want.rows)), string(joined.AppendJSON(nil, r)), want.names[i])
			}
		}
		k.giveBuffers(want.set)
	})
	require.Error(t, func() error { _, err := k.DecodeBlock(nil); return err }())
	_, err := k.DecodeBlock([]byte{'m', 'c', 9})
	require.ErrorContains(t, err, "drain the outbox")
	b := &block{done: true}
	_, err = b.AppendBinary(nil)
	require.ErrorIs(t, err, errDelivered)
}

func FuzzDecodeBlock(f *testing.F) {
	k := Rows[everything](New(Config{}), "t").(*sink[everything, everything])
	k.start(flow.SinkRuntime{StoreID: "s"})
	w, err := k.Writer(f.Context(), flow.TaskInfo{})
	require.NoError(f, err)
	require.NoError(f, w.Write(f.Context(), records(everyRow()...)))
	blocks, err := w.Seal(f.Context())
	require.NoError(f, err)
	data, err := blocks[0].AppendBinary(nil)
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBlock(data)
		if err != nil {
			return
		}
		for i := range b.rows {
			b.appendJSON(nil, i)
		}
		_, err = b.AppendBinary(nil)
		require.NoError(t, err)
	})
}
