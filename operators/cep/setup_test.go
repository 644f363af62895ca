package cep_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// beat is an event: "a:x3@7" is one of key a and kind x, with number 3, at 7 s.
type beat struct {
	Key, Kind string
	N, At     int64
}

func (b beat) key() string     { return b.Key }
func (b beat) time() time.Time { return time.Unix(0, b.At) }
func (b beat) text() string    { return fmt.Sprint(b.Kind, b.N) }

// beats are events in order of time.
func beats(script string) (all []beat) {
	for _, word := range strings.Fields(script) {
		key, rest, _ := strings.Cut(word, ":")
		what, at, ok := strings.Cut(rest, "@")
		n, err := strconv.ParseInt(what[1:], 10, 64)
		s, err2 := strconv.ParseFloat(at, 64)
		if !ok || err != nil || err2 != nil {
			panic("not a beat: " + word)
		}
		all = append(all, beat{key, what[:1], n, int64(s * 1e9)})
	}
	slices.SortStableFunc(all, func(a, b beat) int { return cmp.Compare(a.At, b.At) })
	return all
}

// is fits events of some kinds.
func is(kinds string) cep.StepOption[beat] {
	return cep.Where(func(b beat) bool { return strings.Contains(kinds, b.Kind) })
}

type beatMatch = cep.Match[string, beat]

// matchText prints a match: its key, its steps and its time.
func matchText(m beatMatch) string {
	return fmt.Sprintf("%s%s @%s", m.Key, stepTexts(m), seconds(m.Time))
}

func stepTexts(m beatMatch) string {
	var b strings.Builder
	for _, s := range m.Steps {
		fmt.Fprintf(&b, " %s=%s", s.Step, strings.Join(beatTexts(s.Values), ","))
	}
	return b.String()
}

func beatTexts(bs []beat) (texts []string) {
	for _, v := range bs {
		texts = append(texts, v.text())
	}
	return texts
}

func seconds(t flow.Timestamp) string {
	if t == flow.EndOfTime {
		return "end"
	}
	return strconv.FormatFloat(float64(t)/1e9, 'f', -1, 64)
}

// lab is a topology with one pattern, or a set, whose results are text.
type lab struct {
	*flowtest.Run
	src               *flowtest.Source[beat]
	out, almost, late *flowtest.Sink[string]
	dead              *flowtest.Sink[flow.DeadLetter]
	tasks             int
	// f, if set, makes a result of a match.
	f func(ctx context.Context, m beatMatch) (string, error)
	// letters connects the dead letters.
	letters bool
	build   func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string]
	raw     bool
}

func newLab(t *testing.T, p cep.Pattern[beat], opts ...cep.Option) *lab {
	l := &lab{tasks: 1}
	l.build = func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
		return operators.CEP(k, "cep", p, f, opts...)
	}
	return l.start(t)
}

// clockLab runs a pattern by the clock.
func clockLab(t *testing.T, p cep.Pattern[beat], opts ...cep.Option) *lab {
	l := &lab{tasks: 1, raw: true}
	opts = append(opts, cep.ProcessingTime())
	l.build = func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
		return operators.CEP(k, "cep", p, f, opts...)
	}
	return l.start(t)
}

func (l *lab) start(t *testing.T) *lab {
	l.src, l.dead = flowtest.NewSource[beat](), flowtest.NewSink[flow.DeadLetter]()
	l.out, l.almost, l.late = flowtest.NewSink[string](), flowtest.NewSink[string](), flowtest.NewSink[string]()
	l.Run = flowtest.Start(t, l.topology, l.src)
	return l
}

func (l *lab) topology(opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("lab", append(opts, flow.WithParallelism(l.tasks))...)
	in := flow.From(top, "in", l.src)
	var keyed flow.KeyedStream[string, beat]
	if l.raw {
		keyed = flow.KeyBy(in, beat.key)
	} else {
		keyed = flow.KeyBy(timed(in), beat.key)
	}
	m := l.build(keyed, func(ctx context.Context, m beatMatch) (string, error) {
		if l.f != nil {
			return l.f(ctx, m)
		}
		return matchText(m), nil
	})
	flow.To(m, "out", l.out)
	flow.To(operators.Map(m.TimedOut(), "almost", func(_ context.Context, m beatMatch) (string, error) { return matchText(m), nil }), "almost-out", l.almost)
	flow.To(operators.Map(m.Late(), "late", func(_ context.Context, r flow.Late[beat]) (string, error) {
		return r.Value.Key + " " + r.Value.text() + ": " + r.Reason, nil
	}), "late-out", l.late)
	if l.letters {
		flow.To(top.DeadLetters(), "dead", l.dead)
	}
	return top
}

// timed gives events their times; the watermark is that of the last event, exclusive.
func timed(in flow.Stream[beat]) flow.TimedStream[beat] {
	return flow.AssignTime(in, "time", beat.time, monotonous())
}

// gives feeds events and returns the matches that come of them, sorted, an epoch ended.
func (l *lab) gives(script string) []string {
	l.T.Helper()
	l.src.Feed(beats(script)...)
	l.Epoch()
	return sorted(l.out.Next())
}

// pass lets the watermark come to a time, by an event of another key.
func (l *lab) pass(at float64) []string {
	l.T.Helper()
	l.src.Feed(beat{"~", "~", 0, int64(at*1e9) + 1})
	l.Epoch()
	return sorted(l.out.Next())
}

// ends flushes the stream and returns the matches that come.
func (l *lab) ends() []string {
	l.T.Helper()
	l.Flush()
	return sorted(l.out.Next())
}

func sorted(texts []string) []string {
	slices.Sort(texts)
	return append([]string{}, texts...)
}

func list(texts ...string) []string { return append([]string{}, texts...) }

// counter is a counter of the node, summed over its tasks.
func (l *lab) counter(name string) (n int64) {
	for _, c := range l.Running().Counters() {
		if c.Name == name && c.Node == "cep" {
			n += c.Value
		}
	}
	return n
}

// stored are the sizes of the entries of the node's state in the store by their space, the topology being killed and started again for it.
func (l *lab) stored() map[byte][]int {
	l.T.Helper()
	l.Kill()
	db, err := l.Store.Open("lab")
	require.NoError(l.T, err)
	sizes := map[byte][]int{}
	require.NoError(l.T, db.Scan([]byte{'N'}, []byte{'N' + 1}, func(key, value []byte) error {
		sizes[key[3]] = append(sizes[key[3]], len(value))
		return nil
	}))
	require.NoError(l.T, db.Close())
	l.Restart()
	return sizes
}

// partials is how many keys have partial matches in the store.
func (l *lab) partials() int { l.T.Helper(); return len(l.stored()[16]) }

func monotonous() flow.WatermarkStrategy {
	return watermark.Monotonous().Every(0).MaxFutureSkew(watermark.Off)
}
