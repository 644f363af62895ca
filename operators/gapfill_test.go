package operators_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

// stepLine is a step as text: its time in seconds, and its value; * where it was filled, ? where it is missing.
func stepLine(s operators.Step[string, event]) string {
	mark := map[operators.StepKind]string{operators.Observed: "", operators.Filled: "*", operators.Missing: "?"}[s.Kind]
	return fmt.Sprintf("%s %d=%d%s", s.Key, s.Time.Time().Unix(), s.Value.N, mark)
}

// gapless is a GapFill by tens of seconds, as lines, with the late ones.
func gapless(fill operators.Fill[event], limit int, opts ...operators.GapOption) func(s flow.Stream[event]) []flow.Stream[string] {
	return func(s flow.Stream[event]) []flow.Stream[string] {
		g := operators.GapFill(flow.KeyBy(timed(s), event.key), "fill", 10*time.Second, limit, fill, opts...)
		steps := operators.Map(g, "lines", func(_ context.Context, s operators.Step[string, event]) (string, error) { return stepLine(s), nil })
		late := operators.Map(g.Late(), "late-lines", func(_ context.Context, l flow.Late[event]) (string, error) {
			return fmt.Sprintf("late-%s %d=%d", l.Value.Key, l.Time.Time().Unix(), l.Value.N), nil
		})
		return []flow.Stream[string]{steps, late}
	}
}

func linear() operators.Fill[event] {
	return operators.Linear(func(e event) float64 { return float64(e.N) }, func(e event, n float64) event {
		e.N = int64(math.Round(n))
		return e
	})
}

// firstOnly fills a step only where it stands first in its gap.
func firstOnly(g operators.Gap[event]) (event, bool) {
	return event{N: g.After.N*1000 + int64(g.Steps)}, g.Step == 0
}

func TestGapFill(t *testing.T) {
	// The watermark is 5 s behind the latest reading of any key.
	in := []event{{"a", 10, 3}, {"a", 12, 8}, {"a", 20, 5}, {"a", 40, 33}, {"a", 30, 29}, {"b", 1, 35}, {"a", 99, 12}, {"b", 13, 95}, {"a", 50, 92}}
	for name, c := range map[string]struct {
		fill  operators.Fill[event]
		limit int
		opts  []operators.GapOption
		want  []string
	}{
		"last value": {operators.LastValue(), 3, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=12*", "a 29=30", "a 33=40", "a 40=40*", "a 50=40*", "a 60=40*", "a 92=50",
			"b 35=1", "b 40=1*", "b 50=1*", "b 60=1*", "b 95=13", "late-a 12=99",
		}},
		"last value, one step": {operators.LastValue(), 1, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=12*", "a 29=30", "a 33=40", "a 40=40*", "a 92=50", "b 35=1", "b 40=1*", "b 95=13", "late-a 12=99",
		}},
		"no value": {operators.NoValue(), 100, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=0?", "a 29=30", "a 33=40", "a 40=0?", "a 50=0?", "a 60=0?", "a 70=0?", "a 80=0?", "a 92=50",
			"b 35=1", "b 40=0?", "b 50=0?", "b 60=0?", "b 70=0?", "b 80=0?", "b 95=13", "late-a 12=99",
		}},
		"linear": {linear(), 5, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=14*", "a 29=30", "a 33=40", "a 40=41*", "a 50=43*", "a 60=45*", "a 70=46*", "a 80=48*", "a 92=50",
			"b 35=1", "b 40=2*", "b 50=4*", "b 60=6*", "b 70=8*", "b 80=10*", "b 95=13", "late-a 12=99",
		}},
		"linear, gap too long": {linear(), 4, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=14*", "a 29=30", "a 33=40", "a 92=50", "b 35=1", "b 95=13", "late-a 12=99",
		}},
		"by a function": {operators.FillBy(firstOnly), 5, nil, []string{
			"a 3=10", "a 5=20", "a 8=12", "a 10=30001*", "a 29=30", "a 33=40", "a 40=50005*", "a 92=50", "b 35=1", "b 40=13005*", "b 95=13", "late-a 12=99",
		}},
		"grid moved": {operators.LastValue(), 2, []operators.GapOption{operators.GridOffset(-23 * time.Second)}, []string{
			// Steps begin at 7, 17, 27 …
			"a 3=10", "a 5=20", "a 8=12", "a 17=12*", "a 29=30", "a 33=40", "a 37=40*", "a 47=40*", "a 92=50", "b 35=1", "b 37=1*", "b 47=1*", "b 95=13", "late-a 12=99",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{Inputs: in, Key: firstWord, BuildMany: gapless(c.fill, c.limit, c.opts...), Want: c.want})
		})
	}
}

func TestGapFillInAllModes(t *testing.T) {
	for name, fill := range map[string]operators.Fill[event]{"last value": operators.LastValue(), "linear": linear()} {
		t.Run(name, func(t *testing.T) {
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{Inputs: events(31, 60, 4), Key: firstWord, BuildMany: gapless(fill, 3)})
		})
	}
}

// fillRun runs events of one task through a GapFill by tens of seconds.
func fillRun(t *testing.T, fill operators.Fill[event], limit int) *statefulRun {
	return startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		g := operators.GapFill(s, "fill", 10*time.Second, limit, fill)
		return flow.Apply[operators.Step[string, event], string](g, "lines", func() flow.OperatorFunc[operators.Step[string, event], string] {
			return func(_ context.Context, r *flow.Record[operators.Step[string, event]], out *flow.Output[string]) error {
				*out.Next(r.Time, nil) = fmt.Sprintf("%s @%v", stepLine(r.Value), r.Time.Add(1).Time().Sub(time.Unix(0, 0)))
				return nil
			}
		})
	})
}

// A key that goes silent is filled while the watermark goes on, up to the limit, and begins anew behind that.
func TestGapFillOfASilentKey(t *testing.T) {
	r := fillRun(t, operators.LastValue(), 3)
	require.Equal(t, []string{"a 1=5 @1.000000001s"}, r.after(event{"a", 5, 1}, event{"z", 1, 24}))
	require.Equal(t, []string{"a 10=5* @20s"}, r.after(event{"z", 1, 26})[:1], "the watermark passes 20 s")
	r.Crash()
	require.Empty(t, r.after(event{"z", 1, 26}))
	require.Equal(t, []string{"a 20=5* @30s", "a 30=5* @40s"}, keyed("a", r.after(event{"z", 1, 48})))
	require.Empty(t, keyed("a", r.after(event{"z", 1, 200})))
	require.Equal(t, []string{"a 196=6 @3m16.000000001s", "a 200=6* @3m30s", "a 210=6* @3m40s"}, keyed("a", r.after(event{"a", 6, 196}, event{"z", 1, 230})))
	require.Empty(t, keyed("a", r.after(event{"a", 7, 224})))
	late := int64(0)
	for _, c := range r.Running().Counters() {
		if c.Node == "fill" && c.Name == "late" {
			late += c.Value
		}
	}
	require.EqualValues(t, 1, late)
	r.Flush()
	require.Empty(t, keyed("a", r.out.Next()), "the end of the stream adds nothing")
}

// Linear waits for the reading behind the gap.
func TestGapFillWaitsForTheOtherSide(t *testing.T) {
	r := fillRun(t, linear(), 3)
	require.Equal(t, []string{"a 1=10 @1.000000001s"}, keyed("a", r.after(event{"a", 10, 1}, event{"z", 1, 44})))
	r.Crash()
	require.Equal(t, []string{"a 10=20* @20s", "a 20=31* @30s", "a 30=42* @40s", "a 42=55 @42.000000001s"}, keyed("a", r.after(event{"a", 55, 42}, event{"z", 1, 50})))
	require.Equal(t, []string{"a 100=7 @1m40.000000001s"}, keyed("a", r.after(event{"z", 1, 99}, event{"a", 7, 100}, event{"z", 1, 110})), "too long a gap is not filled")
	r.Stop()
}

func keyed(key string, lines []string) (of []string) {
	for _, l := range lines {
		if firstWord(l) == key {
			of = append(of, l)
		}
	}
	return of
}

func TestLinearLeavesOutWhatIsNoNumber(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		r := fillRun(t, operators.Linear(func(event) float64 { return v }, func(e event, _ float64) event { return e }), 3)
		require.Len(t, r.after(event{"a", 1, 0}, event{"a", 2, 30}, event{"z", 1, 50}), 2)
		r.Stop()
	}
}

func TestGapFillRefuses(t *testing.T) {
	top := flow.New("wrong", flow.WithStore(state.InMemory()))
	in := flow.From(top, "in", flowtest.NewSource[event]())
	by := flow.KeyBy(timed(in), event.key)
	to := func(g operators.Gapless[string, event], name string) {
		flow.To(g, name, flowtest.NewSink[operators.Step[string, event]]())
	}
	to(operators.GapFill(by, "step", 0, 3, operators.LastValue()), "a")
	to(operators.GapFill(by, "limit", time.Second, 0, operators.NoValue()), "b")
	to(operators.GapFill(by, "nil", time.Second, 3, nil), "c")
	to(operators.GapFill(by, "nil-function", time.Second, 3, operators.FillBy[event](nil)), "d")
	to(operators.GapFill(by, "nil-number", time.Second, 3, operators.Linear[event](nil, nil)), "e")
	to(operators.GapFill(flow.KeyBy(in, event.key), "untimed", time.Second, 3, operators.LastValue()), "f")
	err := top.Validate()
	for _, say := range []string{
		`"step": steps of 0s`, `"limit": a limit of 0 steps`, `"nil": there is nothing to fill by`, `"nil-function": there is nothing`,
		`"nil-number": there is nothing`, `"untimed": the operator needs event time`,
	} {
		require.ErrorContains(t, err, say)
	}
}
