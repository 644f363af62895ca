package flow_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// words counts what somebody says per ten seconds.
type words struct {
	src  *flowtest.Source[said]
	out  *flowtest.Sink[window.Result[string, int64]]
	late *flowtest.Sink[flow.Late[said]]
	wm   flow.WatermarkStrategy
	opts []flow.TimeOption[said]
}

func newWords(wm flow.WatermarkStrategy, partitions ...string) *words {
	return &words{
		src: flowtest.NewSource[said](partitions...), out: flowtest.NewSink[window.Result[string, int64]](),
		late: flowtest.NewSink[flow.Late[said]](), wm: wm.Every(0),
	}
}

func (w *words) start(t *testing.T) *flowtest.Run {
	return flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("words", append(opts, flow.WithParallelism(2))...)
		timed := flow.AssignTime(flow.From(top, "in", w.src), "time", said.time, w.wm, w.opts...)
		win := operators.Window(flow.KeyBy(timed, said.who), "count", window.Tumbling(10*time.Second), agg.Count(said.who))
		flow.To(win, "out", w.out)
		flow.To(win.Late(), "late", w.late)
		return top
	}, w.src)
}

// fired are the windows that came out since the last call.
func (w *words) fired() (s []string) {
	for _, r := range w.out.Next() {
		s = append(s, fmt.Sprintf("%s %d: %d", r.Key, r.Start.Time().Unix(), r.Value))
	}
	return s
}

func TestAlign(t *testing.T) {
	w := newWords(watermark.Monotonous().Align(20*time.Second).IdleAfter(30*time.Second), "fast", "slow", "silent")
	r := w.start(t)
	read := func() int64 {
		r.Epoch()
		return w.src.Committed("fast")
	}
	for i := range int64(10) {
		w.src.FeedTo("fast", said{"ann", "x", 10 * i})
		r.Settle()
	}
	require.EqualValues(t, 10, read(), "nobody else has spoken")
	w.src.FeedTo("slow", said{"bob", "x", 5})
	r.Settle()
	w.src.FeedTo("fast", said{"ann", "x", 100})
	require.EqualValues(t, 10, read(), "95 s ahead of slow: it waits")
	w.src.FeedTo("slow", said{"bob", "x", 69})
	require.EqualValues(t, 10, read(), "still 21 s")
	r.Kill()
	r.Restart()
	require.EqualValues(t, 10, read(), "it waits also after a crash")
	w.src.FeedTo("slow", said{"bob", "x", 70})
	require.Eventually(t, func() bool { return read() == 11 }, 5*time.Second, time.Millisecond, "20 s are allowed")

	w.src.FeedTo("fast", said{"ann", "x", 101})
	require.EqualValues(t, 11, read())
	w.src.Idle("slow")
	r.Settle()
	r.Clock.Advance(31 * time.Second)
	require.Eventually(t, func() bool { return read() == 12 }, 5*time.Second, time.Millisecond, "an idle one is not waited for")

	w.src.FeedTo("slow", said{"bob", "x", 71})
	r.Settle()
	w.src.FeedTo("fast", said{"ann", "x", 200})
	require.EqualValues(t, 12, read())
	r.Stop() // what was handed out goes in
	require.EqualValues(t, 13, w.src.Committed("fast"))
}

func TestPunctuated(t *testing.T) {
	w := newWords(watermark.Monotonous().Simulated(), "0", "1")
	w.opts = append(w.opts, flow.Punctuated(func(s said) (time.Time, bool) { return s.time(), s.Word == "end" }))
	r := w.start(t)
	w.src.FeedTo("0", said{"ann", "x", 1}, said{"ann", "x", 50}, said{"ann", "x", 9})
	w.src.FeedTo("1", said{"ann", "end", 30})
	r.Epoch()
	require.Empty(t, w.fired(), "no end on 0")
	w.src.FeedTo("0", said{"bob", "end", 12}, said{"bob", "end", 11}, said{"ann", "x", 9}, said{"ann", "x", 12})
	r.Epoch()
	require.Equal(t, []string{"ann 0: 2"}, w.fired())
	require.Len(t, w.late.Next(), 1, "behind the end")
	r.Crash()
	w.src.FeedTo("0", said{"ann", "x", 3})
	r.Epoch()
	require.Len(t, w.late.Next(), 1, "the watermark is kept")
}

func TestCloseIdleAfter(t *testing.T) {
	w := newWords(watermark.BoundedOutOfOrderness(2*time.Second).CloseIdleAfter(20*time.Second).IdleAfter(5*time.Second), "0", "1")
	r := w.start(t)
	w.src.FeedTo("0", said{"ann", "x", 14})
	w.src.FeedTo("1", said{"bob", "x", 13})
	r.Epoch()
	require.Empty(t, w.fired())
	wait := func(d time.Duration) {
		w.src.Idle("0")
		w.src.Idle("1")
		r.Settle()
		r.Clock.Advance(d)
		r.Epoch()
	}
	wait(19 * time.Second)
	require.Empty(t, w.fired(), "not silent for long enough")
	wait(time.Second)
	require.ElementsMatch(t, []string{"ann 10: 1", "bob 10: 1"}, w.fired(), "its time has gone on by 20 s: to 34 - 2")
	w.src.FeedTo("1", said{"bob", "x", 31}, said{"bob", "x", 32})
	r.Epoch()
	require.Empty(t, w.fired())
	require.Empty(t, w.late.Next())
	r.Crash()
	w.src.FeedTo("1", said{"bob", "x", 19})
	r.Epoch()
	require.Len(t, w.late.Next(), 1, "the mark is kept")
	wait(9 * time.Second)
	require.Empty(t, w.fired())
	wait(12 * time.Second)
	require.Equal(t, []string{"bob 30: 2"}, w.fired())
}

func TestWatermarksSayWhoHoldsThem(t *testing.T) {
	w := newWords(watermark.Monotonous().IdleAfter(5*time.Second), "0", "1")
	r := w.start(t)
	w.src.FeedTo("0", said{"ann", "x", 14})
	r.Settle()
	at := func(s int64) flow.Timestamp { return flow.Timestamp(s*1e9 - 1) }
	require.Equal(t, []flow.WatermarkInfo{
		{Node: "count", Watermark: flow.None, HeldBy: "in/1"},
		{Node: "time", Partition: "0", Watermark: at(14)},
		{Node: "time", Partition: "1", Watermark: flow.None},
	}, r.Running().Watermarks())
	w.src.FeedTo("1", said{"ann", "x", 20})
	r.Settle()
	w.src.Idle("1")
	r.Settle()
	r.Clock.Advance(6 * time.Second)
	r.Settle()
	require.Equal(t, []flow.WatermarkInfo{
		{Node: "count", Watermark: at(14), HeldBy: "in/0"},
		{Node: "time", Partition: "0", Watermark: at(14)},
		{Node: "time", Partition: "1", Watermark: at(20), Idle: true},
	}, r.Running().Watermarks())
}
