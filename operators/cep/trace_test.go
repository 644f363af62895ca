package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

// String prints a beat as scripts have it, without its time.
func (b beat) String() string { return b.Key + ":" + b.text() }

// traced runs a script and returns what is told of key a.
func traced(t *testing.T, p cep.Pattern[beat], script string, opts ...cep.Option) (lines []string) {
	opts = append(opts, cep.Trace("a", func(l cep.Line[beat]) { lines = append(lines, l.String()) }))
	l := newLab(t, p, opts...)
	l.src.Feed(beats(script)...)
	l.Flush()
	return lines
}

func TestTrace(t *testing.T) {
	t.Parallel()
	p := cep.Begin("warm", is("x")).Next("hot", is("y")).NotFollowedBy("cool", is("z")).FollowedBy("over", is("w")).Within(time.Minute)
	for name, c := range map[string]struct {
		script string
		lines  []string
	}{
		"nothing begins": {"a:y1@1 b:x1@1", []string{
			`1970-01-01T00:00:01Z a:y1 fits no start`,
		}},
		"not the very next": {"a:x1@1 a:v2@2", []string{
			`1970-01-01T00:00:01Z a:x1 taken as "warm", having warm×1`,
			`1970-01-01T00:00:02Z a:v2 died in "hot", having warm×1`,
		}},
		"an event that must not come": {"a:x1@1 a:y2@2 b:x1@2 a:z3@3", []string{
			`1970-01-01T00:00:01Z a:x1 taken as "warm", having warm×1`,
			`1970-01-01T00:00:02Z a:y2 taken as "hot", having warm×1 hot×1`,
			`1970-01-01T00:00:03Z a:z3 stopped in "over", having warm×1 hot×1`,
		}},
		"time": {"a:x1@1 a:y2@2 a:v3@3 b:v4@90", []string{
			`1970-01-01T00:00:01Z a:x1 taken as "warm", having warm×1`,
			`1970-01-01T00:00:02Z a:y2 taken as "hot", having warm×1 hot×1`,
			`1970-01-01T00:00:03Z a:v3 waits in "over", having warm×1 hot×1`,
			`1970-01-01T00:01:29.999999999Z timed out in "over", having warm×1 hot×1`,
		}},
		"a match": {"a:x1@1 a:y2@2 a:w3@3", []string{
			`1970-01-01T00:00:01Z a:x1 taken as "warm", having warm×1`,
			`1970-01-01T00:00:02Z a:y2 taken as "hot", having warm×1 hot×1`,
			`1970-01-01T00:00:03Z a:w3 taken as "over", having warm×1 hot×1 over×1`,
			`1970-01-01T00:00:03Z a:w3 matched, having warm×1 hot×1 over×1`,
		}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.lines, traced(t, p, c.script)) })
	}
	t.Run("a strategy", func(t *testing.T) {
		lines := traced(t, cep.Begin("x", is("x")).FollowedBy("y", is("y")).AfterMatch(cep.SkipPastLast()), "a:x1@1 a:x2@2 a:y3@3")
		require.Contains(t, lines, `1970-01-01T00:00:03Z a:y3 skipped after a match, having x×1 y×1`)
	})
	t.Run("a limit", func(t *testing.T) {
		lines := traced(t, waits(), "a:x1@1 a:x2@2", cep.MaxPartials(1, cep.DropOldest()))
		require.Contains(t, lines, `1970-01-01T00:00:02Z a:x2 dropped at the limit in "y", having x×1`)
	})
	t.Run("late", func(t *testing.T) {
		var lines []string
		l := newLab(t, waits(), cep.Trace("a", func(l cep.Line[beat]) { lines = append(lines, l.String()) }))
		l.pass(9)
		l.src.Feed(beats("a:x1@1 b:x1@2")...)
		l.pass(10)
		require.Equal(t, []string{`1970-01-01T00:00:01Z a:x1 late`}, lines)
	})
}
