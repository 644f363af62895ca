package flow

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/state"
)

type valveCase struct {
	ID     string `json:"id"`
	Inputs int    `json:"inputs"`
	Steps  []struct {
		In     int        `json:"in"`
		WM     *Timestamp `json:"wm"`
		Idle   bool       `json:"idle"`
		Active bool       `json:"active"`
	} `json:"steps"`
	Out []struct {
		After  int        `json:"after"`
		WM     *Timestamp `json:"wm"`
		Idle   bool       `json:"idle"`
		Active bool       `json:"active"`
	} `json:"out"`
}

func valveCases(t *testing.T) (cases []valveCase) {
	f, err := os.Open("testdata/watermarks.jsonl")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c valveCase
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		cases = append(cases, c)
	}
	require.NoError(t, lines.Err())
	require.Len(t, cases, 208)
	return cases
}

// What comes out of the valve is what came out of Apache Flink's, step by step.
func TestValveConformance(t *testing.T) {
	for _, c := range valveCases(t) {
		t.Run(c.ID, func(t *testing.T) {
			var v valve
			for range c.Inputs {
				v.add()
			}
			require.Equal(t, c.want(), c.run(v.take))
		})
	}
}

// An exchange's valve that goes through the store between any two steps does the same where no input is idle. Idleness is not kept:
// the partition was just asked to be read again and is active until its source says that there is nothing; the output must not
// fall for that.
func TestValveConformanceRestored(t *testing.T) {
	alike := 0
	for _, c := range valveCases(t) {
		t.Run(c.ID, func(t *testing.T) {
			reg := newRegistry()
			start := func(db mapDB) (*exchange, []int) {
				x := &exchange{owner: "node", nodes: []string{"node"}, ins: map[string]int{}, gates: []*gate{{}}}
				require.NoError(t, x.restore(&unit{engine: &engine{db: db, registry: reg}, scope: -1}))
				ins := make([]int, c.Inputs)
				for i := range ins {
					ins[i] = x.input(fmt.Sprint("sender/", i))
				}
				return x, ins
			}
			db := mapDB{}
			x, ins := start(db)
			v := &x.gates[0].valve
			idle := false
			for _, s := range c.Steps {
				idle = idle || s.Idle
			}
			var raised []Timestamp
			got := c.run(func(i int, m mark, emit func(mark)) {
				v.take(ins[i], m, func(m mark) {
					if m.kind == markWatermark {
						raised = append(raised, m.wm)
					}
					emit(m)
				})
				var w changes
				x.collect(&unit{engine: &engine{registry: reg}, scope: -1}, &w)
				w.replay(mapBatch(db))
				x, ins = start(db)
				v = &x.gates[0].valve
			})
			for i := 1; i < len(raised); i++ {
				require.Greater(t, raised[i], raised[i-1], "the output only rises")
			}
			if !idle {
				alike++
				require.Equal(t, c.want(), got)
			}
		})
	}
	require.NotZero(t, alike)
}

// mapDB is a store's database as far as an exchange uses it.
type mapDB map[string][]byte

func (d mapDB) Get(key []byte) ([]byte, bool, error) {
	v, ok := d[string(key)]
	return v, ok, nil
}
func (d mapDB) Scan([]byte, []byte, func(k, v []byte) error) error { return nil }
func (d mapDB) NewBatch() state.Batch                              { return mapBatch(d) }
func (d mapDB) Close() error                                       { return nil }

type mapBatch map[string][]byte

func (b mapBatch) Put(k, v []byte)         { b[string(k)] = append([]byte(nil), v...) }
func (b mapBatch) Delete(k []byte)         { delete(b, string(k)) }
func (b mapBatch) DeleteRange(_, _ []byte) {}
func (b mapBatch) Commit() error           { return nil }
func (b mapBatch) Close() error            { return nil }

func (c *valveCase) want() []string {
	var want []string
	for _, o := range c.Out {
		switch {
		case o.WM != nil:
			want = append(want, fmt.Sprintf("%d: watermark %d", o.After, *o.WM))
		case o.Idle:
			want = append(want, fmt.Sprintf("%d: idle", o.After))
		case o.Active:
			want = append(want, fmt.Sprintf("%d: active", o.After))
		}
	}
	return want
}

// run gives a valve the case's steps.
func (c *valveCase) run(take func(in int, m mark, emit func(mark))) []string {
	var got []string
	for i, s := range c.Steps {
		m := mark{kind: markActive}
		switch {
		case s.WM != nil:
			m = mark{kind: markWatermark, wm: *s.WM}
		case s.Idle:
			m = mark{kind: markIdle}
		}
		take(s.In, m, func(m mark) {
			switch m.kind {
			case markWatermark:
				got = append(got, fmt.Sprintf("%d: watermark %d", i, m.wm))
			case markIdle:
				got = append(got, fmt.Sprintf("%d: idle", i))
			case markActive:
				got = append(got, fmt.Sprintf("%d: active", i))
			}
		})
	}
	return got
}

func TestValveInputThatIsRemoved(t *testing.T) {
	var v valve
	var got []Timestamp
	emit := func(m mark) {
		if m.kind == markWatermark {
			got = append(got, m.wm)
		}
	}
	a, b := v.add(), v.add()
	v.take(a, mark{markWatermark, 50}, emit)
	v.take(b, mark{markWatermark, 10}, emit)
	v.remove(b, emit)
	v.remove(b, emit)
	require.Equal(t, []Timestamp{10, 50}, got, "an input that is gone holds nothing back")
	c := v.add()
	v.take(a, mark{markWatermark, 70}, emit)
	require.Equal(t, []Timestamp{10, 50}, got, "a new input holds back until it speaks")
	v.take(c, mark{markWatermark, 20}, emit)
	require.Equal(t, []Timestamp{10, 50}, got, "the output never falls")
	v.take(c, mark{markWatermark, 60}, emit)
	require.Equal(t, []Timestamp{10, 50, 60}, got)
}
