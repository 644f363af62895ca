package flowtest

import (
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// SinkSetup is what SinkContract has to know of a sink: how to make one, and what it claims.
type SinkSetup[T any] struct {
	// New makes a place to write to that nothing else uses and that is empty: a table, a topic, a file. Each check takes one of its
	// own; t is the check's, and what has to be tidied up is tidied up by t.Cleanup.
	New func(t testing.TB) SinkCase[T]
	// Record makes the record with an id.
	Record func(id int) T
	// Refused makes records with an id that cannot be stored, by what is wrong with them ("no key", "too large"). Whether Write
	// refuses them or the system does is the sink's affair. Optional.
	Refused map[string]func(id int) T
	// Wrong are sinks with a wrong configuration, by a word that Open's error must contain: the field's name, say.
	Wrong map[string]func() flow.Sink[T]

	// Key says which records of one writer are stored in the order in which they were written: those of one key. Defaults to all
	// of them.
	Key func(id int) string
	// Unordered says that none are.
	Unordered bool
	// Repeats says that a block whose delivery ended without an answer may be stored twice. Without it every record is there once.
	Repeats bool
	// NoEncoding says that blocks cannot be encoded for an outbox.
	NoEncoding bool

	// Count is how many records a check writes. Defaults to 600.
	Count int
	// Hold is how long a fault lasts. Defaults to 300 ms.
	Hold time.Duration
	// Recover is how long the sink may take to deliver after a fault, and to notice one. Defaults to 10 s.
	Recover time.Duration
	// SealWithin bounds Seal, for which a task waits. Defaults to 100 ms.
	SealWithin time.Duration
	// Leaky are functions of goroutines ("net/http.(*persistConn).readLoop") that may outlive the sink: the client's own.
	Leaky []string

	patience
}

// SinkCase is one place to write to.
type SinkCase[T any] struct {
	// Sink makes a sink for the place. Every call makes an instance of the same identity, as a process has that starts again.
	Sink func() flow.Sink[T]
	// Stored reads back the ids of all records that are there, repeats too, in their order where there is one.
	Stored func(t testing.TB) []int
	// Network is between the sink and its system. Optional: checks that need it are left out without.
	Network Network
}

func (s SinkSetup[T]) withDefaults() SinkSetup[T] {
	if s.Count == 0 {
		s.Count = defaultCount
	}
	if s.Hold == 0 {
		s.Hold = defaultHold
	}
	if s.Recover == 0 {
		s.Recover = defaultRecover
	}
	if s.SealWithin == 0 {
		s.SealWithin = 100 * time.Millisecond
	}
	s.patience = s.patience.withDefaults()
	return s
}

// SinkContract checks that a sink keeps the promises of flow.Sink. It stands in for the engine, calls the sink as the engine does and
// judges what was stored: that every record is there, once or as the sink claims; that writers copy what they keep and Seal is
// quick and needs no network; that blocks survive their encoding; that blocks are delivered again after a transient error, and
// nothing of them twice beyond what the sink claims; that a refused record goes to the dead letters and takes no neighbour
// with it; that everything ends when it is told to, and leaves no goroutine behind. With SinkCase.Network each fault of it is
// caused for Hold and has to be over within Recover.
//
// The checks are subtests. Most run beside each other; that of goroutines runs alone, before them.
func SinkContract[T any](t *testing.T, setup SinkSetup[T]) {
	t.Helper()
	s := setup.withDefaults()
	for _, c := range sinkChecks[T]() {
		t.Run(c.name, func(t *testing.T) {
			if !c.alone {
				t.Parallel()
			}
			c.run(t, &s)
		})
	}
}

// sinkCheck is one promise. A check for which a case has not what it needs says so and passes.
type sinkCheck[T any] struct {
	name  string
	alone bool
	run   func(t testing.TB, s *SinkSetup[T])
}

func sinkChecks[T any]() []sinkCheck[T] {
	checks := []sinkCheck[T]{
		{"leaves no goroutine", true, sinkLeavesNoGoroutine[T]},
		{"wrong configuration", false, wrongSink[T]},
		{"everything once in order", false, storesOnce[T]},
		{"several writers", false, severalWriters[T]},
		{"write copies", false, writeCopies[T]},
		{"seal", false, seals[T]},
		{"encoding", false, encoding[T]},
		{"refused records", false, refusedRecords[T]},
		{"ends when told", false, sinkEndsWhenTold[T]},
		{"in a topology", false, sinkInATopology[T]},
		{"opens without its system", false, opensWithout[T]},
		{"error is transient", false, errorIsTransient[T]},
	}
	for _, f := range append(faults, fault{"cut in the middle", nil}) {
		checks = append(checks, sinkCheck[T]{"fault " + f.name, false, func(t testing.TB, s *SinkSetup[T]) { faultInDelivery(t, s, f) }})
	}
	return checks
}
