package flowtest

import (
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// SourceSetup is what SourceContract has to know of a source: how to make one, and what it claims.
type SourceSetup[T any] struct {
	// New makes a place to read from that nothing else uses and that is empty: a topic, a directory. Each check takes one of its
	// own; t is the check's, and what has to be tidied up is tidied up by t.Cleanup.
	New func(t testing.TB) SourceCase[T]
	// ID is the id with which a record was published. It is asked again when the next batch comes: with a codec that is
	// codec.Aliasing a source that reuses its payloads' memory is found out.
	ID func(T) int
	// Wrong are sources with a wrong configuration, by a word that Open's error must contain: the field's name, say.
	Wrong map[string]func() flow.Source[T]

	// Unordered says that records of a partition do not come in the order in which they were published.
	Unordered bool
	// RepeatsOnFault says that a broken connection makes records come again which the source has emitted already. Only a source
	// that redelivers may claim it.
	RepeatsOnFault bool
	// RepeatsAcks says that a broken connection makes records come again whose commit was under way, and no others.
	RepeatsAcks bool
	// Remembers says that the system keeps what was committed, so that a source with nothing stored goes on behind it. A source
	// that redelivers always does.
	Remembers bool
	// NoIdle says that the source never tells that it has nothing: its partitions hold watermarks up for ever when they fall silent.
	NoIdle bool

	// Count is how many records a check publishes, at most as many as the system lets be unacked at once: some checks commit
	// nothing. Defaults to 600.
	Count int
	// Hold is how long a fault lasts, and how long the topology takes nothing in the check of backpressure. Defaults to 300 ms.
	Hold time.Duration
	// Recover is how long the source may take to go on after a fault, and to begin. Defaults to 10 s.
	Recover time.Duration
	// MaxHeap is how many bytes the source may hold while the topology takes nothing and SourceCase.Large has published three
	// times as many. Defaults to 16 MiB.
	MaxHeap int
	// Leaky are functions of goroutines ("net/http.(*persistConn).readLoop") that may outlive the source: the client's own.
	Leaky []string

	patience
}

// SourceCase is one place to read from. Optional functions are nil where there is no such thing: their checks are left out then.
type SourceCase[T any] struct {
	// Source makes a source that reads the place. Every call makes an instance of the same identity, as a process has that
	// starts again: client id, consumer group.
	Source func() flow.Source[T]
	// Publish puts records with these ids there, in this order, and returns when the system has them for good. Nil for a
	// source that makes its records itself: it has the ids from 0 to Count-1 then, and ends.
	Publish func(t testing.TB, ids []int)
	// Poison puts a message there that cannot be decoded. Optional.
	Poison func(t testing.TB, payload []byte)
	// Large is Publish of records of about so many bytes each. Optional.
	Large func(t testing.TB, ids []int, bytes int)
	// Member makes another member of the source's group, which takes partitions off it. Optional: for sources that call Remove.
	Member func() flow.Source[T]
	// Network is between the source and its system. Optional.
	Network Network
}

func (s SourceSetup[T]) withDefaults() SourceSetup[T] {
	if s.Count == 0 {
		s.Count = defaultCount
	}
	if s.Hold == 0 {
		s.Hold = defaultHold
	}
	if s.Recover == 0 {
		s.Recover = defaultRecover
	}
	if s.MaxHeap == 0 {
		s.MaxHeap = defaultHeap
	}
	s.patience = s.patience.withDefaults()
	return s
}

// SourceContract checks that a source keeps the promises of flow.Source. It stands in for the engine, calls the source as the engine
// does and judges what comes back: that nothing waits for the network in Open; that positions rise, batches are
// whole and order holds; that a crash brings back everything that was not committed; that a topology which takes nothing is
// waited for, within bounded memory; that idleness is told truthfully; that a message which cannot be decoded is rejected
// with its bytes and blocks nothing; that everything ends when it is told to, and leaves no goroutine behind. With
// SourceCase.Network each fault of it is caused for Hold and has to be over within Recover.
//
// The checks are subtests. Most run beside each other; those of goroutines and memory run alone, before them.
func SourceContract[T any](t *testing.T, setup SourceSetup[T]) {
	t.Helper()
	s := setup.withDefaults()
	for _, c := range sourceChecks[T]() {
		t.Run(c.name, func(t *testing.T) {
			if !c.alone {
				t.Parallel()
			}
			c.run(t, &s)
		})
	}
}

// sourceCheck is one promise. A check for which a case has not what it needs says so and passes.
type sourceCheck[T any] struct {
	name  string
	alone bool
	run   func(t testing.TB, s *SourceSetup[T])
}

func sourceChecks[T any]() []sourceCheck[T] {
	checks := []sourceCheck[T]{
		{"leaves no goroutine", true, leavesNoGoroutine[T]},
		{"bounded memory", true, boundedMemory[T]},
		{"wrong configuration", false, wrongSource[T]},
		{"everything once in order", false, everythingOnce[T]},
		{"crash without a commit", false, crashWithoutCommit[T]},
		{"crash between commits", false, crashBetweenCommits[T]},
		{"clean stop", false, cleanStop[T]},
		{"backpressure", false, backpressure[T]},
		{"idle and lag", false, idleAndLag[T]},
		{"poison", false, poison[T]},
		{"ends when told", false, endsWhenTold[T]},
		{"remove waits", false, removeWaits[T]},
		{"in a topology", false, inATopology[T]},
		{"begins without its system", false, beginsWithout[T]},
		{"cut after the ack", false, cutAfterAck[T]},
	}
	for _, f := range faults {
		checks = append(checks, sourceCheck[T]{"fault " + f.name, false, func(t testing.TB, s *SourceSetup[T]) { faultBeforeAck(t, s, f) }})
	}
	return checks
}
