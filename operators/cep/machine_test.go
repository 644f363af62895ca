package cep_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// collector keeps what a machine finds.
type collector struct {
	m        *nfa.Machine[event]
	matches  []string
	timeouts []string
}

func (c *collector) text(m nfa.Match[event]) string {
	var order []string
	ids := map[string][]string{}
	m.Each(func(s int, e *nfa.Event[event]) {
		name := c.m.Stages()[s]
		if ids[name] == nil {
			order = append(order, name)
		}
		ids[name] = append(ids[name], e.Value.E)
	})
	var b strings.Builder
	for _, name := range order {
		fmt.Fprintf(&b, "%s=%s ", name, strings.Join(ids[name], ","))
	}
	return b.String()
}

func (c *collector) Match(m nfa.Match[event], at flow.Timestamp) error {
	c.matches = append(c.matches, fmt.Sprintf("%sat %d", c.text(m), at))
	return nil
}

func (c *collector) TimedOut(m nfa.Match[event], at flow.Timestamp) error {
	c.timeouts = append(c.timeouts, fmt.Sprintf("%sat %d", c.text(m), at))
	return nil
}

type cborValues struct{}

func (cborValues) Append(b []byte, v *event) ([]byte, error) {
	n := len(b)
	b, err := codec.CBOR[event]().Append(append(b, 0, 0), v)
	b[n], b[n+1] = byte(len(b)-n-2), byte((len(b)-n-2)>>8)
	return b, err
}

func (cborValues) Read(b []byte, v *event) ([]byte, error) {
	if len(b) < 2 || len(b) < 2+int(b[0])+int(b[1])<<8 {
		return nil, nfa.ErrDamaged
	}
	n := 2 + int(b[0]) + int(b[1])<<8
	return b[n:], codec.CBOR[event]().Decode(b[2:n], v)
}

// TestMachineConformance runs every case on the automaton itself, whose state is written and read back after every input.
func TestMachineConformance(t *testing.T) {
	for i, c := range cases(t) {
		if race && i%8 != 0 {
			continue
		}
		t.Run(c.ID, c.runMachine)
	}
}

func (c *testCase) runMachine(t *testing.T) {
	p, problems := c.build().Compile()
	if c.Invalid == "builder" {
		require.NotEmpty(t, problems)
		return
	}
	require.Empty(t, problems)
	m := nfa.NewMachine(p)
	out := &collector{m: m}
	r := nfa.NewRun[event]()
	wm := int64(-1 << 63)
	var waiting []event
	var late []string
	for i, e := range c.Input {
		var err error
		if e.WM == nil {
			if e.TS <= wm {
				late = append(late, e.E)
			} else {
				waiting = append(waiting, e)
			}
		} else {
			wm = *e.WM
			slices.SortStableFunc(waiting, func(a, b event) int { return int(a.TS - b.TS) })
			for len(waiting) > 0 && waiting[0].TS <= wm && err == nil {
				at := flow.Timestamp(waiting[0].TS)
				if _, err = m.Advance(r, at, out); err == nil {
					_, err = process(m, r, at, &waiting[0], out)
				}
				waiting = waiting[1:]
			}
			if err == nil {
				_, err = m.Advance(r, flow.Timestamp(wm), out)
			}
		}
		if c.Invalid == "runtime" && i == c.After {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		if c.Invalid == "" {
			c.compare(t, i, out)
		}
		b, err := r.Append(nil, cborValues{})
		require.NoError(t, err)
		r, err = m.Read(b, cborValues{})
		require.NoError(t, err)
	}
	require.Equal(t, c.Late, append([]string{}, late...))
}

func (c *testCase) compare(t *testing.T, i int, out *collector) {
	if c.gaps() || c.deviates() || c.tagged("artefact:tie") {
		return // TestConformance looks at what there is to be compared of those
	}
	sorted := func(texts []string) []string {
		slices.Sort(texts)
		return append([]string{}, texts...)
	}
	require.Equal(t, c.want(c.Matches, i), sorted(out.matches), "matches after %d", i)
	require.Equal(t, c.want(c.Timeouts, i), sorted(out.timeouts), "timeouts after %d", i)
	out.matches, out.timeouts = nil, nil
}

// process gives a machine an event.
func process(m *nfa.Machine[event], r *nfa.Run[event], at flow.Timestamp, v *event, out nfa.Emit[event]) (changed bool, err error) {
	m.Look(at, v)
	return m.Take(r, at, out)
}
