package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

// noAnswer is an x and no y within 5 s.
func noAnswer() cep.Pattern[beat] {
	return cep.Begin("asked", is("x")).Absent("answer", 5*time.Second, is("y"))
}

func TestAbsentAtTheEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t, noAnswer())
	require.Empty(t, l.gives("a:x1@1 b:x2@1 a:z3@2 b:y4@4 c:x5@5"))
	require.Empty(t, l.pass(5.9))
	require.Equal(t, list("a asked=x1 @6"), l.pass(6), "at its moment, without any further event of the key")
	require.Equal(t, list("c asked=x5 @10"), l.pass(30), "whatever the watermark has come to")
	require.Empty(t, l.ends())
	require.Empty(t, l.almost.Values(), "an event that must not come ends it: its time is not up")
}

func TestAbsentAndAnEventExactlyAtItsEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t, noAnswer())
	require.Empty(t, l.gives("a:x1@1 b:x2@1 b:y3@5.999 a:y4@6"))
	require.Equal(t, list("a asked=x1 @6"), l.pass(7), "that comes too late")
}

func TestAbsentSurvivesACrash(t *testing.T) {
	t.Parallel()
	l := newLab(t, noAnswer())
	require.Empty(t, l.gives("a:x1@1 b:x2@1"))
	require.Empty(t, l.pass(2))
	l.Crash()
	require.Empty(t, l.pass(5.5))
	l.tasks = 4
	l.Crash()
	require.Empty(t, l.gives("b:y3@5.9"))
	l.Crash()
	require.Equal(t, list("a asked=x1 @6"), l.pass(6), "no event of the key came since the restarts")
	require.Empty(t, l.ends())
}

func TestAbsentInTheMiddle(t *testing.T) {
	t.Parallel()
	p := cep.Begin("up", is("x")).Absent("noise", 3*time.Second, is("z")).FollowedBy("down", is("y")).Within(10 * time.Second)
	l := newLab(t, p)
	// a: the stretch holds, then y; b: y comes within the stretch and is skipped, the next one counts; c: noise; d: no y in time; e: noise behind the stretch.
	require.Empty(t, l.gives("a:x1@1 b:x2@1 c:x3@1 d:x4@1 e:x5@1 b:y6@2 c:z7@3"))
	require.Equal(t, list("a up=x1 down=y8 @5", "b up=x2 down=y9 @5"), l.gives("a:y8@5 b:y9@5 c:y10@5 e:z11@5 e:y12@6"))
	require.Equal(t, list("e up=x5 down=y12 @6"), l.pass(7))
	require.Empty(t, l.pass(20))
	require.Equal(t, list("d up=x4 @11"), sorted(l.almost.Values()))
}

// One absence after another: each begins where the one before has ended.
func TestAbsentTwice(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).Absent("y", 2*time.Second, is("y")).Absent("z", 3*time.Second, is("z"))
	l := newLab(t, p)
	require.Empty(t, l.gives("a:x1@1 b:x2@1 c:x3@1 a:z4@2 b:y5@2 c:z6@4 a:y7@5"))
	require.Equal(t, list("a x=x1 @6"), l.pass(10))
}

// However far the watermark jumps, matches of a key come in order of time.
func TestAbsencesCompleteInOrderOfTime(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).FollowedByAny("y", is("y")).Absent("z", 5*time.Second, is("z"))
	l := newLab(t, p)
	l.src.Feed(beats("a:x1@1 a:x2@2 a:y3@8 a:y4@9")...)
	l.Flush()
	require.Equal(t, list("a x=x1 y=y3 @13", "a x=x2 y=y3 @13", "a x=x1 y=y4 @14", "a x=x2 y=y4 @14"), l.out.Values())
}

// What a strategy removes does not depend on how far the watermark jumps either.
func TestAbsentWithAStrategy(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).Absent("y", 2*time.Second, is("y")).AfterMatch(cep.SkipPastLast())
	for _, fine := range []bool{true, false} {
		l := newLab(t, p)
		l.src.Feed(beats("a:x1@1 a:x2@2 a:y3@3.5 a:x4@4 a:x5@5")...)
		if fine {
			for s := 5.5; s < 9; s += .5 {
				l.src.Feed(beat{"~", "~", 0, int64(s * 1e9)})
			}
		}
		l.Flush()
		require.Equal(t, list("a x=x1 @3", "a x=x4 @6", "a x=x5 @7"), l.out.Values())
	}
}

func TestBeginAbsent(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.BeginAbsent("beat", 5*time.Second, is("x")))
	require.Empty(t, l.gives("a:x1@1 b:x2@2 a:y3@3 b:x4@4 c:y5@4"))
	require.Equal(t, list("a @6"), l.pass(8.5), "a was silent; c never had a beat; b had one in between")
	require.Equal(t, list("b @9"), l.pass(9))
	require.Empty(t, l.pass(100), "once")
	require.Empty(t, l.gives("a:x6@101"))
	require.Empty(t, l.pass(105))
	require.Equal(t, list("a @106"), l.pass(106), "and again after the next beat")
}

func TestBeginAbsentSurvivesACrash(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.BeginAbsent("beat", 5*time.Second, is("x")))
	require.Empty(t, l.gives("a:x1@1 b:x2@2"))
	require.Empty(t, l.pass(3))
	l.tasks = 4
	l.Crash()
	require.Equal(t, list("a @6"), l.pass(6))
	l.tasks = 1
	l.Crash()
	require.Equal(t, list("b @7"), l.pass(50), "each once")
	require.Empty(t, l.partials(), "nothing is kept of a silent key")
	require.Empty(t, l.ends())
}

func TestBeginAbsentThenSteps(t *testing.T) {
	t.Parallel()
	p := cep.BeginAbsent("beat", 5*time.Second, is("x")).FollowedBy("back", is("x")).Next("ok", is("y")).Within(10 * time.Second)
	l := newLab(t, p)
	require.Empty(t, l.gives("a:x1@1 b:x2@1 c:x3@1 a:z4@7 a:x5@8 a:y6@9"))
	l.Crash()
	require.Equal(t, list("a back=x5 ok=y6 @9"), l.pass(10))
	require.Empty(t, l.gives("b:x7@12 b:z8@13"), "not the very next")
	require.Equal(t, list(), l.pass(17))
	require.Equal(t, list("c @16"), sorted(l.almost.Next()), "the bound counts from when the absence was complete")
	require.Empty(t, l.ends())
	require.Equal(t, list("a @23", "b @27"), sorted(l.almost.Next()), "a's beat at 8 and b's at 12 began new silences")
}

// Each number of repetitions reached goes on to the absence, which is counted from the last of them.
func TestAbsentBehindARepetition(t *testing.T) {
	t.Parallel()
	p := cep.Begin("up", is("x")).FollowedBy("noise", is("z"), cep.OneOrMore()).Absent("down", 5*time.Second, is("y"))
	got, _ := gives(t, p, "a:x1@1 a:z2@2 a:z3@4 b:x1@1 b:z2@2 b:y3@3 b:z4@4 c:x1@1 c:y2@10")
	require.Equal(t, list("a up=x1 noise=z2 @7", "a up=x1 noise=z2,z3 @9", "b up=x1 noise=z2,z4 @9"), got, "b's y ends the absence behind z2, not the repetition")

	p = cep.Begin("up", is("x"), cep.OneOrMore(), cep.Greedy()).Absent("up again", 3*time.Second, is("x")).AfterMatch(cep.SkipPastLast())
	got, _ = gives(t, p, "a:x1@1 a:x2@2 a:w3@3 a:x4@4 a:x5@9")
	require.Equal(t, list("a up=x1,x2,x4 @7", "a up=x5 @12"), got, "a session")
}

func TestAbsentBehindAnOptionalStep(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).FollowedBy("maybe", is("m"), cep.Optional()).Absent("y", 5*time.Second, is("y")).FollowedBy("z", is("z"), cep.Optional())
	got, _ := gives(t, p, "a:x1@1 a:m2@2 b:x1@1 b:z3@20 c:x1@1 c:m2@3 c:y3@4 d:x1@1 d:y2@2 d:m3@3")
	require.Equal(t, list("a x=x1 @6", "a x=x1 maybe=m2 @7", "b x=x1 @6", "b x=x1 z=z3 @20", "d x=x1 maybe=m3 @8"), got)

	// An absence behind another one, with an optional step between.
	p = cep.BeginAbsent("beat", 2*time.Second, is("b")).FollowedBy("maybe", is("m"), cep.Optional()).Absent("y", 3*time.Second, is("y"))
	got, _ = gives(t, p, "a:b1@1 a:m2@4 c:b1@1 c:y2@4 d:w1@99")
	require.Equal(t, list("a @6", "a maybe=m2 @7"), got)
}

// In a group an absence may stand behind a step, and the group repeats.
func TestAbsentInAGroup(t *testing.T) {
	t.Parallel()
	quiet := cep.Begin("x", is("x")).Absent("y", 2*time.Second, is("y"))
	got, _ := gives(t, cep.BeginGroup(quiet, cep.Times(2)).FollowedBy("end", is("e")), "a:x1@1 a:x2@4 a:e3@5 a:e4@7 b:x1@1 b:y2@2 b:x3@4 b:e4@7")
	require.Equal(t, list("a x=x1,x2 end=e4 @7"), got)
}
