package timepage

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
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

var update = flag.Bool("update", false, "draw the pictures anew")

// seen is a record of a run: when it was measured, in seconds, and its number.
type seen struct{ Second, N int }

func (s seen) at() time.Time { return time.Unix(int64(s.Second), 0) }

// arrival is a record on its way: it arrives at a second of processing time.
type arrival struct {
	at, second int
	partition  string
}

// recorder writes down what the engine does, with the processing time.
type recorder struct {
	clock  func() time.Time
	mu     sync.Mutex
	marks  []Point
	fires  []Fire
	late   map[int]string // by number of record: the class of its dot
	window int
}

func (r *recorder) now() int { return int(r.clock().Unix()) }

// probe is an operator that tells the recorder of watermarks.
type probe struct{ r *recorder }

func (p *probe) Process(context.Context, struct{}, *flow.Record[seen], *flow.Output[seen]) error {
	return nil
}

func (p *probe) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[seen]) error {
	if wm == flow.EndOfTime {
		return nil
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.r.marks = append(p.r.marks, Point{float64(p.r.now()), float64(wm) / float64(time.Second)})
	return nil
}

// newest is an aggregate: how many records, and the one added last.
type newest struct{ Count, Last int }

func (n *newest) add(s seen)      { n.Count++; n.Last = s.N }
func (n *newest) merge(o *newest) { n.Count += o.Count; n.Last = max(n.Last, o.Last) }
func (n *newest) result() newest  { return *n }
func newestOf() agg.Aggregate[seen, newest] {
	return agg.Func((*newest).add, (*newest).merge, (*newest).result)
}

// play runs arrivals through a window on the virtual clock, second by second.
func play(t *testing.T, seconds int, wm watermark.Strategy, arrivals []arrival, idleFrom map[string]int, opts ...window.Option) *recorder {
	partitions := []string{}
	for _, a := range arrivals {
		if !slices.Contains(partitions, a.partition) {
			partitions = append(partitions, a.partition)
		}
	}
	rec := &recorder{late: map[int]string{}, window: 10}
	src := flowtest.NewSource[seen](partitions...)
	results, late := flowtest.NewSink[window.Result[struct{}, newest]](), flowtest.NewSink[flow.Late[seen]]()
	r := flowtest.New(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("picture", append(o, flow.WithParallelism(1))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", seen.at, wm.Every(0))
		whole := flow.KeyBy(timed, flow.Whole)
		probed := flow.ApplyKeyed[struct{}, seen, seen](whole, "probe", func() *probe { return &probe{rec} })
		flow.To(probed, "none", flowtest.NewSink[seen]())
		w := operators.Window(whole, "win", window.Tumbling(10*time.Second), newestOf(), opts...)
		flow.To(w, "out", results)
		flow.To(w.Late(), "late", late)
		return top
	}, src)
	r.Clock.Set(time.Unix(0, 0))
	rec.clock = r.Clock.Now
	r.Restart()
	for second := range seconds + 1 {
		for n, a := range arrivals {
			if a.at == second {
				src.FeedRecords(a.partition, flow.Record[seen]{Value: seen{a.second, n}, Time: flow.TimestampOf(r.Clock.Now().Add(time.Nanosecond))})
				r.Settle()
			}
		}
		for p, from := range idleFrom {
			if from == second {
				src.Idle(p)
			}
		}
		r.Epoch()
		for _, v := range results.Next() {
			rec.fires = append(rec.fires, Fire{second, int(v.End.Time().Unix()), fmt.Sprintf("%d", v.Value.Count)})
			if v.Pane.Kind == window.Refined {
				rec.late[v.Value.Last] = "late"
			}
		}
		for _, v := range late.Next() {
			rec.late[v.Value.N] = "lost"
		}
		r.Clock.Advance(time.Second)
		for range 20 { // the engine looks at its idle partitions
			r.Settle()
		}
	}
	r.Stop()
	return rec
}

// dots are the records, as what became of them.
func (r *recorder) dots(arrivals []arrival, class func(arrival) string) (dots []Dot) {
	for n, a := range arrivals {
		c := class(a)
		if l := r.late[n]; l != "" {
			c = l
		}
		dots = append(dots, Dot{c, a.at, a.second})
	}
	return dots
}

func onTime(arrival) string { return "ontime" }

var entries = map[string]string{
	"ontime": "record", "late": "late, its window fires again", "lost": "too late: out of Late()", "other": "record of the other",
	"mark": "watermark", "bare": "watermark without the guard", "fire": "window fires, with its count", "now": "event time = processing time",
}

func legend(classes ...string) (l []Entry) {
	for _, c := range classes {
		l = append(l, Entry{c, entries[c]})
	}
	return l
}

// disordered are records that arrive up to a few seconds after they were measured.
func disordered() (as []arrival) {
	for i, delay := range []int{1, 3, 1, 4, 1, 2, 5, 1, 3, 1, 4, 2, 1, 5, 2, 1, 3, 1, 4, 1, 2, 3, 1, 5, 1, 2} {
		as = append(as, arrival{at: 3*i/2 + delay, second: 3 * i / 2, partition: "0"})
	}
	return as
}

func TestPictures(t *testing.T) {
	for name, draw := range map[string]func(*testing.T) Picture{
		"watermark": watermarkPicture, "lateness": latenessPicture, "idleness": idlenessPicture, "bad-clock": badClockPicture,
	} {
		t.Run(name, func(t *testing.T) {
			p := draw(t)
			path := filepath.Join("..", "..", "pictures", name+".svg")
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(p.SVG()), 0o600))
			}
			was, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(was), p.SVG(), "the engine draws another picture than docs/pictures holds; if it is right: make golden")
		})
	}
}

func watermarkPicture(t *testing.T) Picture {
	as := disordered()
	r := play(t, 45, watermark.BoundedOutOfOrderness(5*time.Second), as, nil)
	require.Empty(t, r.late)
	return Picture{
		Title:   "BoundedOutOfOrderness(5 s): the watermark follows the newest record",
		Alt:     "Records arrive one to five seconds after they were measured. The watermark rises in steps, five seconds behind the newest of them, and each window of ten seconds fires when it reaches the window's end; no record is late.",
		Seconds: 45, Low: 0, High: 40, Window: r.window,
		Dots: r.dots(as, onTime), Lines: []Line{{"mark", r.marks}}, Fires: r.fires,
		Legend: legend("ontime", "mark", "fire", "now"),
	}
}

func latenessPicture(t *testing.T) Picture {
	as := append(disordered(), arrival{21, 6, "0"}, arrival{24, 8, "0"}, arrival{33, 3, "0"}, arrival{35, 14, "0"}, arrival{42, 16, "0"})
	r := play(t, 45, watermark.BoundedOutOfOrderness(5*time.Second), as, nil, window.AllowedLateness(10*time.Second))
	require.Len(t, r.late, 5)
	return Picture{
		Title:   "AllowedLateness(10 s): late records fire their window again",
		Alt:     "As before, with five records that arrive below the watermark. While the watermark is less than ten seconds above its window's end a late record fires the window again; behind that it goes to the side output.",
		Seconds: 45, Low: 0, High: 40, Window: r.window,
		Dots: r.dots(as, onTime), Lines: []Line{{"mark", r.marks}}, Fires: r.fires,
		Legend: legend("ontime", "late", "lost", "mark", "fire"),
	}
}

func idlenessPicture(t *testing.T) Picture {
	var as []arrival
	for s := 0; s <= 43; s += 2 {
		as = append(as, arrival{s + 1, s, "east"})
		if s <= 10 || s >= 38 {
			as = append(as, arrival{s + 1, s + 1, "west"})
		}
	}
	r := play(t, 45, watermark.BoundedOutOfOrderness(time.Second).IdleAfter(12*time.Second), as, map[string]int{"west": 12})
	return Picture{
		Title:   "IdleAfter(12 s): a silent partition holds the watermark for so long",
		Alt:     "Two partitions. One of them has nothing from second 11 to 39: the watermark stands at its last record until twelve seconds have passed, then follows the other one alone, and windows fire.",
		Seconds: 45, Low: 0, High: 44, Window: r.window,
		Dots: r.dots(as, func(a arrival) string {
			if a.partition == "west" {
				return "other"
			}
			return "ontime"
		}),
		Lines: []Line{{"mark", r.marks}}, Fires: r.fires, Spans: []Span{{11, 24, "silent, not yet idle"}, {24, 39, "idle"}},
		Legend: []Entry{{"ontime", "record of partition east"}, {"other", "of partition west"}, {"mark", "watermark"}, {"fire", entries["fire"]}},
	}
}

func badClockPicture(t *testing.T) Picture {
	as := disordered()
	fast := []arrival{{8, 28, "0"}, {16, 36, "0"}, {24, 44, "0"}}
	all := append(slices.Clone(as), fast...)
	wm := watermark.BoundedOutOfOrderness(5 * time.Second)
	guarded, bare := play(t, 45, wm, all, nil), play(t, 45, wm.MaxAhead(watermark.Off), all, nil)
	require.Empty(t, guarded.late)
	require.NotEmpty(t, bare.late)
	return Picture{
		Title:   "A clock that is 20 s fast makes nobody late, and its records count",
		Alt:     fmt.Sprintf("One device sends records twenty seconds ahead of the clock. The watermark that is bounded by the reference time follows the other devices; the one without the guard leaps up, and %d records would be late.", len(bare.late)),
		Seconds: 45, Low: 0, High: 50, Window: guarded.window,
		Dots: guarded.dots(all, func(a arrival) string {
			if a.second > a.at {
				return "other"
			}
			return "ontime"
		}),
		Lines: []Line{{"bare", bare.marks}, {"mark", guarded.marks}}, Fires: guarded.fires,
		Legend: []Entry{{"ontime", "record"}, {"other", "of the fast clock"}, {"mark", "watermark"}, {"bare", fmt.Sprintf("without the guard: %d records late", len(bare.late))}, {"fire", "window fires"}},
	}
}
