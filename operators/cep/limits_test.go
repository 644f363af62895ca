package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

// waits keeps a partial match for each x.
func waits() cep.Pattern[beat] { return cep.Begin("x", is("x")).FollowedBy("y", is("y")) }

func TestMaxPartials(t *testing.T) {
	t.Parallel()
	in := "a:x1@1 a:x2@2 a:x3@3 b:x4@3 a:x5@4"
	for name, c := range map[string]struct {
		policy  cep.Policy
		matches []string
		dropped int64
	}{
		"the oldest": {cep.DropOldest(), list("a x=x3 y=y6 @6", "a x=x5 y=y6 @6", "b x=x4 y=y7 @6"), 2},
		"new ones":   {cep.RefuseNew(), list("a x=x1 y=y6 @6", "a x=x2 y=y6 @6", "b x=x4 y=y7 @6"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, waits(), cep.MaxPartials(2, c.policy))
			require.Empty(t, l.gives(in))
			require.Empty(t, l.pass(5))
			require.Equal(t, c.dropped, l.counter("partials_dropped"))
			l.src.Feed(beats("a:y6@6 b:y7@6")...)
			require.Equal(t, c.matches, l.pass(7))
		})
	}
	t.Run("fail", func(t *testing.T) {
		l := newLab(t, waits(), cep.MaxPartials(2, cep.FailWhenFull()))
		l.src.Feed(beats(in + " a:z9@9")...)
		require.ErrorContains(t, l.TrySettle(), "a key has more than 2 partial matches: bound the pattern by Within or a skip strategy, raise cep.MaxPartials")
	})
}

// At the limit RefuseNew keeps each partial match that is there, whichever of the others the event would have multiplied.
func TestRefuseNewKeepsWhatThereIs(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).FollowedByAny("z", is("z"), cep.OneOrMore(), cep.AllowCombinations()).FollowedBy("y", is("y")).Within(20 * time.Second)
	l := newLab(t, p, cep.MaxPartials(4, cep.RefuseNew()))
	require.Empty(t, l.gives("a:x1@1 a:x2@2 a:x3@3 a:z0@4 a:z0@5 a:z0@6 a:x4@7"))
	l.pass(30)
	var firsts []string
	for _, m := range l.almost.Values() {
		firsts = append(firsts, m[:6])
	}
	require.Equal(t, list("a x=x1", "a x=x1", "a x=x2", "a x=x3"), sorted(firsts))
	require.Positive(t, l.counter("partials_dropped"))
}

// A match that is complete takes no room.
func TestAMatchIsNoPartialMatch(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.Begin("x", is("x")).FollowedByAny("y", is("y")), cep.MaxPartials(1, cep.DropOldest()))
	l.src.Feed(beats("a:x1@1 a:y2@2 a:y3@3")...)
	require.Equal(t, list("a x=x1 y=y2 @2", "a x=x1 y=y3 @3"), l.pass(4))
	require.Zero(t, l.counter("partials_dropped"))
	require.EqualValues(t, 2, l.counter("matches"))
}

func TestPartialMatchesWhoseTimeIsUpAreCounted(t *testing.T) {
	t.Parallel()
	l := newLab(t, waits().Within(2*time.Second))
	require.Empty(t, l.gives("a:x1@1 a:x2@2 b:x3@9"))
	require.EqualValues(t, 2, l.counter("timed_out"))
	require.Zero(t, l.counter("matches"))
}

func TestMaxTotal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy  cep.Policy
		matches []string
	}{
		"the oldest of the key": {cep.DropOldest(), list("a x=x1 y=y5 @5", "b x=x4 y=y6 @5")},
		"new ones":              {cep.RefuseNew(), list("a x=x1 y=y5 @5", "b x=x2 y=y6 @5")},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, waits(), cep.MaxPartials(9, c.policy), cep.MaxTotal(2))
			require.Empty(t, l.gives("a:x1@1 b:x2@2"))
			l.pass(2.5)
			l.Crash()
			require.Empty(t, l.gives("c:x3@3 b:x4@4"))
			require.Empty(t, l.pass(4.5))
			require.EqualValues(t, 2, l.counter("partials_dropped"), "c had no room, and b's other one")
			l.src.Feed(beats("a:y5@5 b:y6@5 c:y7@5")...)
			require.Equal(t, c.matches, l.pass(6))
			l.src.Feed(beats("d:x8@7 d:y9@8")...)
			require.Equal(t, list("d x=x8 y=y9 @8"), l.pass(9), "there is room again")
		})
	}
	t.Run("fail", func(t *testing.T) {
		l := newLab(t, waits(), cep.MaxPartials(9, cep.FailWhenFull()), cep.MaxTotal(2))
		l.src.Feed(beats("a:x1@1 b:x2@2 c:x3@3 c:z4@4")...)
		require.ErrorContains(t, l.TrySettle(), "the keys together have more partial matches than cep.MaxTotal lets be")
	})
	t.Run("of absences", func(t *testing.T) {
		p := cep.BeginAbsent("silent", 2*time.Second, is("x")).FollowedBy("y", is("y"))
		l := newLab(t, p, cep.MaxPartials(9, cep.RefuseNew()), cep.MaxTotal(1))
		require.Empty(t, l.gives("a:x1@1 b:x2@1.5"))
		require.Empty(t, l.pass(4))
		require.EqualValues(t, 1, l.counter("partials_dropped"))
		l.src.Feed(beats("a:y3@5 b:y4@5")...)
		require.Equal(t, list("a y=y3 @5"), l.pass(6))
	})
}

func TestMaxWaiting(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.Begin("x", is("x")), cep.MaxWaiting(2))
	require.Empty(t, l.gives("a:x1@5 a:x2@5 a:x3@5"))
	require.Equal(t, []string{"a x3: 2 events wait for the watermark already (cep.MaxWaiting)"}, l.late.Next())
	require.EqualValues(t, 1, l.counter("over_limit"))
	require.Equal(t, list("a x=x1 @5", "a x=x2 @5"), l.pass(6), "what raises the watermark has no room either")
	require.Empty(t, l.gives("a:x4@7"))
	require.Equal(t, list("a x=x4 @7"), l.pass(8))
}

// Events that can change nothing do not wait. Those that may end a partial match do, though no step can take them.
func TestWhatChangesNothingDoesNotWait(t *testing.T) {
	t.Parallel()
	over := func(p cep.Pattern[beat], events string) int64 {
		l := newLab(t, p, cep.MaxWaiting(2))
		l.src.Feed(beats(events)...)
		l.pass(9)
		return l.counter("over_limit")
	}
	const others = "a:x1@5 a:o2@5 a:o3@5 b:o4@5 a:y5@5"
	relaxed := cep.Begin("x", is("x")).FollowedBy("y", is("y"))
	require.Zero(t, over(relaxed, others))
	require.EqualValues(t, 1, over(relaxed, "a:x1@5 a:o2@5 a:y3@5 b:o4@5 a:y5@5"), "the third that a step could take")
	require.EqualValues(t, 4, over(cep.Begin("x", is("x")).Next("y", is("y")), others), "three of them, and what raises the watermark")
	require.Zero(t, over(relaxed.Within(time.Second), others))

	// Where matches have the time of the key's next event, those do not wait that come before any bound.
	skipping, absent := relaxed.Within(time.Second).AfterMatch(cep.SkipToNext()), cep.Begin("x", is("x")).NotFollowedBy("y", is("y")).Within(time.Second)
	for _, p := range []cep.Pattern[beat]{skipping, absent} {
		require.EqualValues(t, 1, over(p, others), "x1 and y5 wait, and there is no room for what raises the watermark")
	}
	l := newLab(t, absent)
	require.Equal(t, list("a x=x1 @6.999999999"), l.gives("a:x1@5 b:o9@5 a:o2@5.5 a:o3@7 a:o4@9"), "the first watermark behind the bound")
	l = newLab(t, absent)
	require.Empty(t, l.gives("a:x1@5 a:o2@5.5"))
	l.Crash()
	require.Equal(t, list("a x=x1 @7.999999999"), l.gives("a:o3@5.9 a:o4@8 a:o5@9"))
}

// A key without partial matches has no state, in the store neither, and its name is forgotten.
func TestIdleKeysAreFreed(t *testing.T) {
	t.Parallel()
	l := newLab(t, waits().Within(5*time.Second))
	for i := range 100 {
		l.src.Feed(beat{Key: string(rune('A' + i)), Kind: "x", At: int64(i+1) * 1e6})
	}
	l.pass(1)
	require.Equal(t, 100, l.partials())
	keys := l.stored()[0]
	require.NotEmpty(t, keys)
	l.pass(6)
	l.pass(30)
	l.pass(60)
	require.Len(t, l.almost.Next(), 100)
	require.Zero(t, l.partials())
	sum := func(sizes []int) (n int) {
		for _, s := range sizes {
			n += s
		}
		return n
	}
	require.Less(t, sum(l.stored()[0]), 50, "only the key of the marks")
	require.Greater(t, sum(keys), 200)
}
