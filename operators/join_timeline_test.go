package operators_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
)

// written counts what epochs write.
type written struct{ bytes atomic.Int64 }

func (w *written) OnEpoch(i flow.EpochInfo) { w.bytes.Add(int64(i.ChangeBytes)) }

// hot is a join of one key with very many records.
type hot struct {
	src *flowtest.Source[one]
	out *flowtest.Sink[two]
	w   written
	run *flowtest.Run
}

func newHot(t *testing.T, kind joins.Kind, opts ...joins.Option) *hot {
	h := &hot{src: flowtest.NewSource[one](), out: flowtest.NewSink[two]()}
	h.run = flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("hot", append(o, flow.WithParallelism(2), flow.WithHooks(&h.w))...)
		timed := flow.AssignTime(flow.From(top, "in", h.src), "time", one.time, watermark.Monotonous().Every(0))
		l, r := flow.Split(timed, "side", one.isLeft)
		flow.To(operators.OuterJoin(flow.KeyBy(l, one.key), flow.KeyBy(r, one.key), "join", joins.Between(-time.Hour, time.Hour), kind, pair, opts...), "out", h.out)
		return top
	}, h.src)
	return h
}

// A record is written once, not with all that its key holds; and what is freed leaves the store.
func TestJoinWritesARecordOnce(t *testing.T) {
	for name, opts := range map[string][]joins.Option{
		"columns": nil,
		"CBOR":    {joins.LeftCodec(codec.CBOR[one]()), joins.RightCodec(codec.CBOR[one]())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHot(t, joins.Full, opts...)
			many := make([]one, 5000)
			for i := range many {
				many[i] = left(i, int64(i/100))
			}
			h.src.Feed(many...)
			h.run.Epoch()
			all := h.w.bytes.Load()
			require.Greater(t, all, int64(len(many)*10))
			for i := range 40 {
				before := h.w.bytes.Load()
				h.src.Feed(left(5000+i, 100))
				h.run.Epoch()
				require.Less(t, h.w.bytes.Load()-before, int64(4000), "one record more, of %d bytes in all", all)
			}
			h.run.Crash()
			h.src.Feed(right(1, 101), right(2, 100+3*3600))
			h.run.Epoch()
			require.Len(t, h.out.Next(), len(many)+40)
			h.run.Crash()
			h.src.Feed(one{false, "b", 1, 100 + 9*3600})
			h.run.Epoch()
			require.Equal(t, []two{{"a", -1, 2}}, h.out.Next(), "all others had a partner")
			h.run.Stop()
			db, err := h.run.Store.Open("hot")
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			n := 0
			require.NoError(t, db.Scan([]byte("N"), []byte("O"), func(k, _ []byte) error { n++; return nil }))
			require.Less(t, n, 20, "the state of thousands of records is gone")
		})
	}
}

// Logs of many chunks come back whole, with what has had partners.
func TestJoinOverManyEpochs(t *testing.T) {
	h := newHot(t, joins.Left)
	const want = 6 * 60 * 7 // all pairs
	for i := range 60 {
		for k := range 7 {
			h.src.Feed(left(10*i+k, int64(i)))
		}
		h.run.Epoch()
		if i%10 == 9 {
			h.src.Feed(right(i, int64(i)))
		}
		if i%3 == 0 {
			h.run.Settle()
			h.run.Crash()
		}
	}
	h.run.Epoch()
	h.src.Feed(left(1000, 2*3600))
	h.run.Epoch()
	require.Equal(t, want, len(unique(h.out.Values())))
	h.run.Crash()
	h.src.Feed(left(1001, 4*3600), left(1002, 9*3600))
	h.run.Epoch()
	got := unique(h.out.Values())
	require.Equal(t, want+2, len(got))
	require.True(t, got[two{"a", 1000, -1}])
	require.True(t, got[two{"a", 1001, -1}])
	h.run.Stop()
}

// What is damaged is refused, wherever it is cut.
func TestJoinRefusesDamagedState(t *testing.T) {
	h := newHot(t, joins.Full)
	h.src.Feed(left(1, 1), left(2, 2), left(3, 3))
	h.run.Epoch()
	h.src.Feed(right(1, 5))
	h.run.Epoch()
	h.run.Kill()
	type entry struct{ k, v []byte }
	var logs []entry
	each := func(do func(db state.DB)) {
		db, err := h.run.Store.Open("hot")
		require.NoError(t, err)
		do(db)
		require.NoError(t, db.Close())
	}
	each(func(db state.DB) {
		require.NoError(t, db.Scan([]byte("N"), []byte("O"), func(k, v []byte) error {
			if len(k) == 18 { // node, space, part, page
				logs = append(logs, entry{slices.Clone(k), slices.Clone(v)})
			}
			return nil
		}))
	})
	require.Len(t, logs, 2)
	put := func(k, v []byte) {
		each(func(db state.DB) {
			b := db.NewBatch()
			b.Put(k, v)
			require.NoError(t, b.Commit())
			require.NoError(t, b.Close())
		})
	}
	for _, l := range logs {
		for n := 1; n < len(l.v); n++ {
			put(l.k, l.v[:n])
			if err := h.run.TryRestart(); err == nil { // cut between two items: nothing to see
				h.run.Kill()
			} else {
				require.NotContains(t, err.Error(), "panic")
			}
			broken := slices.Clone(l.v)
			broken[n] ^= 0xff
			put(l.k, broken)
			if h.run.TryRestart() == nil {
				h.run.Kill()
			}
		}
		put(l.k, l.v)
	}
	h.run.Restart()
	h.src.Feed(left(4, 6))
	h.run.Epoch()
	require.Equal(t, 4, len(unique(h.out.Values())))
	h.run.Stop()
}

func unique(ps []two) map[two]bool {
	m := map[two]bool{}
	for _, p := range ps {
		m[p] = true
	}
	return m
}

type secret struct{ by map[string]int }

func TestJoinOfRecordsThatCannotBeStored(t *testing.T) {
	top := flow.New("secrets")
	in := flow.From(top, "in", flowtest.NewSource[secret]())
	timed := flow.AssignTime(in, "time", func(secret) time.Time { return time.Time{} }, watermark.Monotonous())
	k := flow.KeyBy(timed, func(s secret) int { return len(s.by) })
	flow.To(operators.Join(k, k, "join", joins.Interval{}, func(l, r secret) int { return 0 }), "out", flowtest.NewSink[int]())
	require.ErrorContains(t, top.Validate(), "its records cannot be stored")
}
