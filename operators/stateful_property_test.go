package operators_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// visits is the state of TestManyStatefulKeysOverCrashes: each third visit of a key sets a timer, and keys are forgotten after 20 s.
type visits struct {
	N    int64
	Last [4]int64
	Text string
}

const (
	visitsTTL   = 20 * time.Second
	visitsBound = 3 * time.Second
)

func visit(s *visits, e event) string {
	s.N++
	s.Last[e.N%4] = e.N
	s.Text = e.Key + s.Text[:min(len(s.Text), 3)]
	return fmt.Sprint(e.Key, " ", *s)
}

// visitModel is the same on plain maps, one record after the other.
type visitModel struct {
	keys map[string]*visitKey
	wm   flow.Timestamp
	out  map[string][]string
}

type visitKey struct {
	visits
	touched, timer flow.Timestamp
}

func (m *visitModel) take(e event) {
	at := secs(e.At)
	k := m.keys[e.Key]
	if k == nil {
		k = &visitKey{touched: flow.None, timer: flow.None}
		m.keys[e.Key] = k
	}
	m.out[e.Key] = append(m.out[e.Key], visit(&k.visits, e))
	if k.N%3 == 0 {
		k.timer = max(at.Add(time.Duration(e.N%9)*time.Second), m.wm+1)
	}
	k.touched = max(k.touched, at, m.wm)
	wm := at.Add(-visitsBound) - 1
	if wm <= m.wm {
		return
	}
	m.wm = wm
	for key, k := range m.keys {
		if k.timer != flow.None && k.timer <= wm {
			m.out[key] = append(m.out[key], fmt.Sprint(key, " timer ", k.N))
			k.touched, k.timer = max(k.touched, k.timer), flow.None
			k.N++
		}
		if k.timer == flow.None && k.touched.Add(visitsTTL) <= wm {
			delete(m.keys, key)
		}
	}
}

func visitOperator(s flow.KeyedStream[string, event]) flow.Stream[string] {
	return operators.Stateful(s, "visits", visitsTTL, func(_ context.Context, c *operators.Cell[string, visits, string], e event) error {
		c.Emit(visit(c.State, e))
		if c.State.N%3 == 0 {
			c.SetTimer(c.Time().Add(time.Duration(e.N%9) * time.Second))
		}
		return nil
	}, operators.OnTimer(func(_ context.Context, c *operators.Cell[string, visits, string], _ flow.Timestamp) error {
		if c.Watermark() != flow.EndOfTime {
			c.Emit(fmt.Sprint(c.Key(), " timer ", c.State.N))
		}
		c.State.N++
		return nil
	}))
}

// Many keys come and go, the topology crashes at or between epochs and comes back with other numbers of tasks: each key has what a model on
// plain maps says, in that order.
func TestManyStatefulKeysOverCrashes(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 17))
			src, out := flowtest.NewSource[event](), flowtest.NewSink[string]()
			tasks := 1
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("many", append(opts, flow.WithParallelism(tasks))...)
				in := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(visitsBound).Every(0))
				flow.To(visitOperator(flow.KeyBy(in, event.key)), "out", out)
				return top
			}, src)
			model := visitModel{map[string]*visitKey{}, flow.None, map[string][]string{}}
			n := int64(0)
			for step := range int64(20) {
				var batch []event
				for range 1 + rnd.IntN(300) {
					n++
					// Keys drift: old ones are forgotten and their slots taken by new ones.
					e := event{fmt.Sprint("key-", step*40+rnd.Int64N(300)), n, 4*step + rnd.Int64N(9)}
					batch = append(batch, e)
					model.take(e)
				}
				src.Feed(batch...)
				if rnd.IntN(2) == 0 {
					r.Epoch()
				} else {
					r.Settle()
				}
				if rnd.IntN(2) == 0 {
					tasks = 1 + rnd.IntN(5)
					r.Crash()
				}
			}
			r.Flush()
			got := map[string][]string{}
			for _, line := range out.Values() {
				got[firstWord(line)] = append(got[firstWord(line)], line)
			}
			require.Equal(t, model.out, got)
		})
	}
}
