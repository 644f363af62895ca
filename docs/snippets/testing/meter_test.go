package testingpage

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// [start]

func TestMinuteSurvivesACrash(t *testing.T) {
	in, out := flowtest.NewSource[Reading](), flowtest.NewSink[Minute]()
	run := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("meters", opts...)
		flow.To(PerMinute(timed(flow.From(top, "readings", in))), "minutes", out)
		return top
	}, in)
	in.Feed(Reading{"m1", 100, at(5)}, Reading{"m1", 200, at(50)})
	run.Epoch() // what was fed is processed and committed
	in.Feed(Reading{"m1", 400, at(55)})
	run.Crash() // the third reading comes again
	in.Feed(Reading{"m1", 1, at(66)})
	run.Epoch()
	require.Len(t, out.Values(), 1)
	require.EqualValues(t, 700, out.Values()[0].Value)
}

// [modes]

func TestMinutesInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[Reading, Minute]{
		Inputs: []Reading{{"m1", 100, at(5)}, {"m2", 50, at(7)}, {"m1", 200, at(50)}, {"m1", 1, at(66)}},
		Build:  func(in flow.Stream[Reading]) flow.Stream[Minute] { return PerMinute(timed(in)) },
		Key:    func(m Minute) string { return m.Key },
	})
}

// [scripts]

var _ = flag.Bool("update", false, "rewrite the expect blocks of the scripts")

func TestScripts(t *testing.T) {
	flowtest.RunScripts(t, "testdata/scripts/*.txt", func(s *flowtest.Script) {
		readings := flowtest.ScriptInput[Reading](s, "readings", nil) // nil: JSON
		minutes := PerMinute(readings)
		flowtest.ScriptOutput(s, "minutes", minutes, func(m Minute) string {
			return fmt.Sprintf("%s [%s,%s) %d W, %s", m.Key, flowtest.ScriptTime(m.Start), flowtest.ScriptTime(m.End), m.Value, m.Pane.Kind)
		})
		flowtest.ScriptOutput(s, "late", minutes.Late(), func(l flow.Late[Reading]) string {
			return fmt.Sprintf("%s %d W, %s", l.Value.Meter, l.Value.Watts, l.Reason)
		})
	})
}

// [property]

func TestMinutesWhateverComes(t *testing.T) {
	flowtest.CheckProperty(t, flowtest.Property[Reading, Minute]{
		Inputs: func(rt *rapid.T) []Reading {
			return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Reading {
				return Reading{
					Meter: rapid.SampledFrom([]string{"m1", "m2"}).Draw(rt, "meter"),
					Watts: rapid.Int64Range(0, 9).Draw(rt, "watts"),
					At:    at(rapid.Int64Range(0, 200).Draw(rt, "at")),
				}
			}), 0, 20).Draw(rt, "readings")
		},
		Build:    func(in flow.Stream[Reading]) flow.Stream[Minute] { return PerMinute(timed(in)) },
		Time:     func(r Reading) time.Time { return r.At },
		Disorder: 5 * time.Second, // what the watermark allows
		Oracle:   minutesOf,
	})
}

// minutesOf is the shortest way to the results: no streams, no state.
func minutesOf(in []Reading) (out []Minute) {
	type minute struct {
		meter string
		n     int64
	}
	sums := map[minute]int64{}
	for _, r := range in {
		sums[minute{r.Meter, r.At.Unix() / 60}] += r.Watts
	}
	for m, sum := range sums {
		start := flow.TimestampOf(at(60 * m.n))
		out = append(out, Minute{Key: m.meter, Start: start, End: start.Add(time.Minute), Value: sum})
	}
	return out
}

// [end]

// The page shows the beginning of the script as it is.
func TestPageQuotesTheScript(t *testing.T) {
	script, err := os.ReadFile("testdata/scripts/late-reading.txt")
	require.NoError(t, err)
	page, err := os.ReadFile("../../testing.md")
	require.NoError(t, err)
	begin, _, _ := strings.Cut(string(script), "\n\n")
	require.Contains(t, string(page), "```text\n"+begin+"\n```\n")
}
