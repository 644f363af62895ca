package flow

import "context"

// Operator is a stateless step. A task has an instance of its own (newOp is called once per task) and calls it from one
// goroutine. It must keep no pointer into r or into what Output.Next returned.
//
// Optional interfaces: Opener, WatermarkHandler, BatchOperator, io.Closer.
type Operator[In, Out any] interface {
	// Process takes one record. An error concerns this record only; what it emitted is taken back.
	Process(ctx context.Context, r *Record[In], out *Output[Out]) error
}

// OperatorFunc makes an Operator of a function.
type OperatorFunc[In, Out any] func(ctx context.Context, r *Record[In], out *Output[Out]) error

// Process calls f.
func (f OperatorFunc[In, Out]) Process(ctx context.Context, r *Record[In], out *Output[Out]) error {
	return f(ctx, r, out)
}

// KeyedOperator is a step that may keep state per key.
//
// Optional interfaces: Opener, WatermarkHandler, KeyedBatchOperator, TimerHandler, io.Closer.
type KeyedOperator[K comparable, In, Out any] interface {
	Process(ctx context.Context, key K, r *Record[In], out *Output[Out]) error
}

// BatchOperator is an optional fast path of an Operator: a slice at a time. When record n fails it returns n and the error, with
// everything emitted for the records before n; the engine decides the record's fate and goes on at n+1. What record n itself
// emitted must not be in out.
type BatchOperator[In, Out any] interface {
	ProcessBatch(ctx context.Context, in []Record[In], out *Output[Out]) (n int, err error)
}

// KeyedBatchOperator is the same for a KeyedOperator; keys[i] is the slot of in[i]'s key (see Keys).
type KeyedBatchOperator[K comparable, In, Out any] interface {
	ProcessBatch(ctx context.Context, keys []Slot, in []Record[In], out *Output[Out]) (n int, err error)
}

// KeyedScreen is an optional fast path of a KeyedOperator most of whose records concern no key: they are not looked up, nor are their keys
// asked for. It is used where the operator alone stands behind its KeyBy; elsewhere KeyedBatchOperator is, which it must be too.
//
// Screen sets notes[i] for in[i], in order, to bits of its own below 24, and to NeedsKey besides where the record has to have its slot. It may change no
// state: a record that it panics at is dealt with like any that fails. ProcessScreened follows with the same records and notes, in one or several
// calls, as ProcessBatch does; keys[i] has no meaning where NeedsKey is not set.
type KeyedScreen[In, Out any] interface {
	// Screens tells, before Open, whether this instance is to be asked at all.
	Screens() bool
	Screen(in []Record[In], notes []Note)
	ProcessScreened(ctx context.Context, keys []Slot, notes []Note, in []Record[In], out *Output[Out]) (n int, err error)
}

// Note is what a KeyedScreen says of a record.
type Note uint32

const (
	// NeedsKey asks for the slot of a record's key.
	NeedsKey Note = 1 << 31
	// unscreened is a note not written yet.
	unscreened Note = 1 << 30
)

// Opener is called once per task before the first record. State is opened here, and is then as the last committed epoch left it.
type Opener interface {
	Open(ctx context.Context, rt Runtime) error
}

// WatermarkHandler is called when the operator's event time advances, before the mark goes on downstream.
type WatermarkHandler[Out any] interface {
	OnWatermark(ctx context.Context, wm Timestamp, out *Output[Out]) error
}

// WatermarkStepper is a WatermarkHandler of a keyed operator whose work at one watermark may be long. After each OnWatermark, which then only
// takes note, the engine calls Step until there is no more to do, and passes the watermark on. Between two steps the task may take other
// records, and OnWatermark again with a later watermark, and an epoch may end: what is still to be done is the operator's state. A
// step should take a few milliseconds at most. The end of the stream is not cut into steps.
type WatermarkStepper[Out any] interface {
	WatermarkHandler[Out]
	Step(ctx context.Context, out *Output[Out]) (more bool, err error)
}

// StepPacer is a WatermarkStepper that takes its time: NextStep is asked after each Step that leaves more to do, and says before which moment
// of processing time there is nothing to do; None and the past mean at once. Meanwhile the task works on other records.
type StepPacer interface{ NextStep() Timestamp }

// TimerHandler is called for timers set by Timers, in order of (time, key group, slot).
type TimerHandler[K comparable, Out any] interface {
	OnTimer(ctx context.Context, key K, at Timestamp, out *Output[Out]) error
}

// ClockTimerHandler is called for timers set by Timers that OpenClockTimers opened, in order of (time, key group, slot), when the clock
// has reached them. What is emitted should carry a time that is not late.
type ClockTimerHandler[K comparable, Out any] interface {
	OnClockTimer(ctx context.Context, key K, at Timestamp, out *Output[Out]) error
}

// Late is a record that came too late, or whose time cannot be right, with the reason in words.
type Late[T any] struct {
	Value  T
	Time   Timestamp
	Reason string
}
