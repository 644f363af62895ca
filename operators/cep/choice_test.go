package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

func TestAllOf(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.AllOf(cep.Begin("x", is("x")), cep.Begin("y", is("y")), cep.Begin("z", is("z"))).AfterMatch(cep.SkipPastLast()))
	for i, order := range []string{"x1@1 a:y2@2 a:z3@3", "x1@11 a:z2@12 a:y3@13", "y1@21 a:x2@22 a:z3@23", "y1@31 a:z2@32 a:x3@33", "z1@41 a:x2@42 a:y3@43", "z1@51 a:y2@52 a:x3@53"} {
		l.src.Feed(beats("a:" + order)...)
		got := l.pass(float64(10*i) + 9)
		require.Len(t, got, 1, order)
	}
	// Events that fit none still to come are skipped.
	l.src.Feed(beats("b:x1@71 b:x2@72 b:w3@73 b:z4@74 b:x5@75 b:y6@76")...)
	require.Equal(t, list("b x=x1 z=z4 y=y6 @76"), l.pass(77))
}

// An event that fits several steps is taken as each of them, in partial matches of their own, and as one of them in each.
func TestAllOfAndAnEventThatFitsSeveral(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.AllOf(cep.Begin("left", is("xy")), cep.Begin("right", is("yz"))))
	l.src.Feed(beats("a:y1@1 a:y2@2")...)
	require.Equal(t, list("a left=y1 right=y2 @2", "a right=y1 left=y2 @2"), l.pass(3))
	l.src.Feed(beats("b:y1@5")...)
	require.Empty(t, l.pass(6), "one event is not two")
	l.src.Feed(beats("b:x2@7")...)
	require.Equal(t, list("b right=y1 left=x2 @7"), l.pass(8))
}

func TestAllOfInGroups(t *testing.T) {
	t.Parallel()
	both := cep.AllOf(cep.Begin("x", is("x")), cep.Begin("y", is("y")))
	t.Run("behind a step", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).FollowedByGroup(both).Next("end", is("e")))
		l.src.Feed(beats("a:s1@1 a:z2@2 a:y3@3 a:z4@4 a:x5@5 a:e6@6 b:s1@1 b:x2@2 b:y3@3 b:z4@4 b:e5@5")...)
		require.Equal(t, list("a start=s1 y=y3 x=x5 end=e6 @6"), l.pass(7), "b's end is not the very next")
	})
	t.Run("that repeats", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).NextGroup(both, cep.Times(2), cep.Consecutive()).FollowedBy("end", is("e")))
		l.src.Feed(beats("a:s1@1 a:y2@2 a:x3@3 a:x4@4 a:y5@5 a:e6@6")...)
		require.Equal(t, list("a start=s1 y=y2,y5 x=x3,x4 end=e6 @6"), l.pass(7))
		l.src.Feed(beats("b:s1@11 b:y2@12 b:x3@13 b:z4@14 b:x5@15 b:y6@16 b:e7@17")...)
		require.Empty(t, l.pass(18), "consecutive: nothing lies between the repetitions")
	})
	t.Run("optional", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).NextGroup(both, cep.Optional()).Next("end", is("e")))
		l.src.Feed(beats("a:s1@1 a:e2@2 b:s1@1 b:x2@2 b:y3@3 b:e4@4 c:s1@1 c:x2@2 c:e3@3")...)
		require.Equal(t, list("a start=s1 end=e2 @2", "b start=s1 x=x2 y=y3 end=e4 @4"), l.pass(5), "half of it is not left out")
	})
	t.Run("behind a not", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).NotFollowedBy("no", is("n")).FollowedByGroup(both))
		l.src.Feed(beats("a:s1@1 a:n2@2 a:x3@3 a:y4@4 b:s1@1 b:x2@2 b:n3@3 b:y4@4")...)
		require.Equal(t, list("b start=s1 x=x2 y=y4 @4"), l.pass(5), "until the group has taken its first")
	})
	t.Run("in time", func(t *testing.T) {
		l := newLab(t, both.Within(3*time.Second))
		l.src.Feed(beats("a:x1@1 a:y2@4 b:x3@1 b:y4@3.999")...)
		require.Equal(t, list("b x=x3 y=y4 @3.999"), l.pass(5))
		require.Equal(t, list("a x=x1 @4"), sorted(l.almost.Next()), "a's y begins a partial match of its own")
		require.Empty(t, l.ends())
		require.Equal(t, list("a y=y2 @7", "b y=y4 @6.999"), sorted(l.almost.Next()))
	})
}

func TestAnyOf(t *testing.T) {
	t.Parallel()
	either := cep.AnyOf(cep.Begin("x", is("x")), cep.Begin("y", is("yv")))
	t.Run("by itself", func(t *testing.T) {
		l := newLab(t, either)
		l.src.Feed(beats("a:x1@1 a:z2@2 a:v3@3")...)
		require.Equal(t, list("a x=x1 @1", "a y=v3 @3"), l.pass(4))
	})
	t.Run("between steps", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).FollowedByGroup(either, cep.Times(2)).FollowedBy("end", is("e")))
		l.src.Feed(beats("a:s1@1 a:y2@2 a:z3@3 a:x4@4 a:x5@5 a:e6@6")...)
		require.Equal(t, list("a start=s1 y=y2 x=x4 end=e6 @6"), l.pass(7))
	})
	t.Run("optional", func(t *testing.T) {
		l := newLab(t, cep.Begin("start", is("s")).FollowedByGroup(either, cep.Optional()).FollowedBy("end", is("e")))
		l.src.Feed(beats("a:s1@1 a:x2@2 a:e3@3 b:s1@1 b:e2@2")...)
		require.Equal(t, list("a start=s1 end=e3 @3", "a start=s1 x=x2 end=e3 @3", "b start=s1 end=e2 @2"), l.pass(5), "left out, the x is skipped as what does not fit")
	})
}
