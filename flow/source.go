package flow

import (
	"context"
	"log/slog"
	"time"
)

// Source reads records from a system. The engine calls Open once, then Run once, which says by Assign which partitions there
// are; for each of them it calls Read on a goroutine of its own. Open, Run and Close are called by one goroutine at a time; Read
// runs once per partition at the same time; Commit of one partition is never called twice at once, but beside Read.
//
// Delivery: a record is acked to the system only by Commit, which the engine calls when everything that came of the records up
// to a position is durable. A source must be able to keep thousands of records unacked.
type Source[T any] interface {
	// Open prepares the source. It must not wait for the network for long: connecting belongs to Run, so that an unreachable
	// system is retried there. A wrong configuration is an error here.
	Open(ctx context.Context, rt SourceRuntime) error
	// Run connects, calls a.Add for the partitions it owns and a.Remove for those that it loses, and blocks until ctx ends (return
	// nil then) or no further partition will come (return nil: when all partitions have been read to their end, the stream
	// ends). A transient error (flow.Transient) makes the engine call Run again after a backoff; any other stops the topology.
	Run(ctx context.Context, a Assign) error
	// Read reads partition p from a position: the one behind the last durable record, zero when none is known. It emits batches
	// until ctx ends, or returns nil earlier when the partition has no more records, ever. Emit blocking is backpressure. A
	// transient error makes the engine call Read again from the position behind the last emitted batch.
	Read(ctx context.Context, p Partition, from Position, in *Intake[T]) error
	// Commit tells that everything of partition p up to the position is durable: ack it. It is called in order of positions. A
	// transient error is retried for as long as it takes; a commit that has become pointless (connection lost, the system will
	// redeliver) returns nil.
	Commit(ctx context.Context, p Partition, upTo Position) error
	// Replay says what comes again after a crash.
	Replay() Replay
	// Close releases everything. It is called after the last Read has returned and the last Commit was done.
	Close(ctx context.Context) error
}

// FixedPartitions is implemented by a source that has the same number of partitions for ever. With one partition and
// parallelism 1 the engine needs no exchange.
type FixedPartitions interface{ Partitions() int }

// Replay says how a source comes back after a crash.
type Replay int

const (
	// Seek says that Read continues exactly behind the position that it is given. State and positions roll back together, so nothing counts
	// twice.
	Seek Replay = iota
	// Redeliver says that the system sends again what was not acked, from wherever it thinks; what state already counted may come again. A
	// Dedup by event id must stand before the first counting operator.
	Redeliver
)

// Position is a place in a partition, behind a record. Zero means that nothing is known. Positions of one partition rise with
// the records.
type Position struct {
	// Offset is the source's own numbering, for instance the broker's next offset to read.
	Offset int64
	// Token is for sources whose places are not numbers.
	Token string
}

// IsZero tells whether nothing is known.
func (p Position) IsZero() bool { return p == Position{} }

// Partition is one ordered part of a source.
type Partition struct {
	// ID names the partition, the same after a restart: state and positions are stored under it.
	ID string
	// Committed is the position that the broker itself remembers for this consumer, zero if it remembers none. It is used where
	// the topology has no state; where it should have and has none, the topology stops rather than count wrongly.
	Committed Position
}

// Assign is how a source says which partitions it reads.
type Assign interface {
	// Add starts reading partitions. Partitions known together are added in one call: they then hold the watermark from the
	// start. Adding a partition that is there is an error.
	Add(p ...Partition) error
	// Remove stops reading the partitions, waits until what they emitted is durable and committed, and forgets them.
	Remove(ctx context.Context, p ...Partition) error
}

// SourceRuntime is what the engine gives a source at Open.
type SourceRuntime struct {
	Topology string
	Node     string
	Clock    Clock
	Log      *slog.Logger
	// CoPartitioned: state is kept by partition, so that all records of a key must stay in one. A source that can tell when keys have
	// moved to other partitions must then stop with the cure.
	CoPartitioned bool
	// Count adds n to a counter of the node, for what the engine cannot see (reconnects, records dropped by the broker). Names are
	// snake_case. It is safe for concurrent use.
	Count func(name string, n int64)
}

// Intake takes the records of one partition. It belongs to the Read call that got it; only Idle, Busy, Lag and Window may be
// called from other goroutines.
type Intake[T any] struct{ b IntakeBackend[T] }

// IntakeBackend is what stands behind an Intake: the engine, or a test kit that runs a source by itself.
type IntakeBackend[T any] interface {
	Buffer() []Record[T]
	Emit(ctx context.Context, batch []Record[T], upTo Position) error
	Reject(raw []byte, cause error, at Position)
	Reference(t time.Time)
	Idle()
	Busy()
	Lag(n int64)
	Window(n int)
}

// NewIntake is for test kits.
func NewIntake[T any](b IntakeBackend[T]) *Intake[T] { return &Intake[T]{b} }

// MaxBatch is the most records that one batch holds.
const MaxBatch = 1024

// Buffer returns an empty slice of capacity MaxBatch to fill for the next Emit. It is the engine's and reused: keep nothing of it.
func (in *Intake[T]) Buffer() []Record[T] { return in.b.Buffer() }

// Emit hands a batch over: at most MaxBatch records in the partition's order, and the position behind the last of them. It
// takes the slice (use Buffer for the next one) and may return before the batch is processed; it blocks while the batch before it
// is in work or the topology cannot take more. Records without a Time get the reference time. An empty batch only moves the position.
// An error (ctx ended, topology stops) means: return it from Read.
func (in *Intake[T]) Emit(ctx context.Context, batch []Record[T], upTo Position) error {
	return in.b.Emit(ctx, batch, upTo)
}

// Reject sends a message that could not be decoded to the dead letters, with its bytes (copied). It belongs to the batch of the
// next Emit, which may be empty of records and must cover the position.
func (in *Intake[T]) Reject(raw []byte, cause error, at Position) { in.b.Reject(raw, cause, at) }

// Reference sets the reference time of the records emitted from now on that carry no Time: when the broker stored them, or when
// the source received them. It is part of the data, stamped once, never read again at a replay from the broker's own store time.
func (in *Intake[T]) Reference(t time.Time) { in.b.Reference(t) }

// Idle says: connected, asked, nothing there. Only then the partition's idle clock runs. The next Emit ends it.
func (in *Intake[T]) Idle() { in.b.Idle() }

// Busy says that there may be records which cannot be read now (disconnected, lagging): the idle clock stops.
func (in *Intake[T]) Busy() { in.b.Busy() }

// Lag tells how many records the system holds beyond the last emitted one.
func (in *Intake[T]) Lag(n int64) { in.b.Lag(n) }

// Window tells how many records the system lets be unacked on this partition, 0 for no limit. When half of it is unacked the
// engine ends the epoch early, so that a small window does not slow the stream to one window per epoch.
func (in *Intake[T]) Window(n int) { in.b.Window(n) }
