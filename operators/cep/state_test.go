package cep_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// discard takes matches and forgets them.
type discard struct{}

func (discard) Match(nfa.Match[event], flow.Timestamp) error    { return nil }
func (discard) TimedOut(nfa.Match[event], flow.Timestamp) error { return nil }

func machine(t testing.TB, p cep.Pattern[event]) *nfa.Machine[event] {
	prog, problems := p.Compile()
	require.Empty(t, problems)
	return nfa.NewMachine(prog)
}

func one(kind string) cep.StepOption[event] { return fits(kind) }

// An event that touches no partial match costs no allocation: of a key that has none, and of one whose partial matches skip it.
func TestUntouchedEventsAllocateNothing(t *testing.T) {
	runs := 100
	if race { // which allocates by itself: one run only looks that nothing is touched
		runs = 0
	}
	for name, p := range map[string]cep.Pattern[event]{
		"relaxed":         cep.Begin("x", one("x")).FollowedBy("y", one("y")).Within(time.Hour),
		"not followed by": cep.Begin("x", one("x")).NotFollowedBy("y", one("y")).Within(time.Hour),
		"absent":          cep.Begin("x", one("x")).Absent("y", time.Hour, one("y")),
		"all of":          cep.Begin("x", one("x")).FollowedByGroup(cep.AllOf(cep.Begin("y", one("y")), cep.Begin("z", one("z")))),
		"given": cep.Begin("x", one("x")).FollowedBy("y", one("y"), cep.WhereGiven(func(e event, sofar *cep.Taken[event]) bool {
			last, _ := sofar.Last("x")
			return last.V > 0
		})),
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t, p)
			w := event{Type: "w"}
			require.False(t, m.Starts(5, &w))
			require.Zero(t, allocs(runs, func() { m.Starts(5, &w) }))
			r := nfa.NewRun[event]()
			for at := range flow.Timestamp(3) {
				_, err := process(m, r, at+1, &event{Type: "x"}, discard{})
				require.NoError(t, err)
			}
			require.Equal(t, 3, r.Partials())
			require.Zero(t, allocs(runs, func() {
				advanced, _ := m.Advance(r, 6, discard{})
				changed, err := process(m, r, 6, &w, discard{})
				if advanced || changed || err != nil {
					t.Error("touched")
				}
			}))
		})
	}
}

// allocs are the allocations of a call, counted over runs; without runs it only calls.
func allocs(runs int, f func()) float64 {
	if runs == 0 {
		f()
		return 0
	}
	return testing.AllocsPerRun(runs, f)
}

// Partial matches share the events that they have in common, and the links of their paths: the state grows with the number of partial matches, not
// with their lengths.
func TestStateIsShared(t *testing.T) {
	t.Parallel()
	sizes := map[int]int{}
	big := strings.Repeat("v", 1000)
	for _, n := range []int{4, 8} {
		m := machine(t, cep.Begin("x", one("x")).FollowedByAny("y", one("y"), cep.OneOrMore(), cep.AllowCombinations()).FollowedBy("z", one("z")))
		r := nfa.NewRun[event]()
		_, err := process(m, r, 1, &event{Type: "x"}, discard{})
		require.NoError(t, err)
		for i := range n {
			_, err = process(m, r, flow.Timestamp(i+2), &event{Type: "y", E: fmt.Sprint(big, i)}, discard{})
			require.NoError(t, err)
		}
		require.GreaterOrEqual(t, r.Partials(), 1<<n, "all combinations")
		b, err := r.Append(nil, cborValues{})
		require.NoError(t, err)
		require.LessOrEqual(t, strings.Count(string(b), big), n, "each event is there once")
		sizes[n] = (len(b) - n*1050) / r.Partials()
		require.Less(t, sizes[n], 24, "bytes per partial match, without the events")
	}
	require.InDelta(t, sizes[4], sizes[8], 8, "linear in the partial matches")
}

// storedRun is a state with partial and finished matches, as bytes, and its machine.
func storedRun(t testing.TB) (*nfa.Machine[event], []byte) {
	m := machine(t, cep.Begin("x", one("x"), cep.OneOrMore(), cep.AllowCombinations()).FollowedByAny("y", one("y")).Within(time.Hour).AfterMatch(cep.SkipToFirst("y")))
	r := nfa.NewRun[event]()
	for i, kind := range "xxyx" {
		_, err := process(m, r, flow.Timestamp(i+1), &event{Type: string(kind), E: fmt.Sprint(i)}, discard{})
		require.NoError(t, err)
	}
	b, err := r.Append(nil, cborValues{})
	require.NoError(t, err)
	return m, b
}

// readDamaged reads bytes: they are refused, or make a state that can go on and be written again.
func readDamaged(t testing.TB, m *nfa.Machine[event], b []byte) {
	r, err := m.Read(b, cborValues{})
	if err != nil {
		return
	}
	for i, kind := range "xyw" {
		at := flow.Timestamp(100 + i)
		_, err = m.Advance(r, at, discard{})
		require.NoError(t, err)
		_, err = process(m, r, at, &event{Type: string(kind)}, discard{})
		require.NoError(t, err)
	}
	_, err = m.Advance(r, flow.EndOfTime, discard{})
	require.NoError(t, err)
	_, err = r.Append(nil, cborValues{})
	require.NoError(t, err)
}

func TestDamagedStateIsRefused(t *testing.T) {
	t.Parallel()
	m, whole := storedRun(t)
	readDamaged(t, m, whole)
	for n := range whole {
		_, err := m.Read(whole[:n], cborValues{})
		require.Error(t, err, "the first %d of %d bytes", n, len(whole))
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			b := append([]byte(nil), whole...)
			b[n] = v
			readDamaged(t, m, b)
		}
	}
	_, err := m.Read(append(whole, 0), cborValues{})
	require.ErrorIs(t, err, nfa.ErrDamaged)
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		b := append([]byte(nil), whole...)
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
		readDamaged(t, m, b)
	}
}

func FuzzRead(f *testing.F) {
	m, whole := storedRun(f)
	f.Add(whole)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) { readDamaged(t, m, b) })
}
