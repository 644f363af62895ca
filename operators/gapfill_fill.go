package operators

import (
	"math"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Fill says what GapFill puts into steps without a reading.
type Fill[T any] func(*FillConfig)

// PlainFill is a Fill that fits every type of readings.
type PlainFill = func(*FillConfig)

// FillConfig is what a Fill fills. It is for GapFill.
type FillConfig struct {
	kind    StepKind
	between any // func(Gap[T]) (T, bool)
}

// LastValue fills a step with the value of the last reading before it, as it is: times and ids within it are that reading's.
func LastValue() PlainFill { return func(c *FillConfig) { c.kind = Filled } }

// NoValue marks a step as Missing, with a zero value.
func NoValue() PlainFill { return func(c *FillConfig) { c.kind = Missing } }

// Gap is a gap between two readings, and the step in it that is to be filled.
type Gap[T any] struct {
	Before, After         T
	BeforeTime, AfterTime flow.Timestamp
	// Time is the beginning of the step.
	Time flow.Timestamp
	// Step counts the steps of the gap from 0, and Steps is how many there are.
	Step, Steps int
}

// Part is how far into the gap, from 0 to 1, the step begins.
func (g Gap[T]) Part() float64 {
	return float64(time.Duration(g.Time-g.BeforeTime)) / float64(time.Duration(g.AfterTime-g.BeforeTime))
}

// FillBy fills a gap by a function that is asked for each step; false leaves the step out. It must be pure. A panic stops the topology.
func FillBy[T any](f func(Gap[T]) (T, bool)) Fill[T] {
	return func(c *FillConfig) { c.between = f }
}

// Linear fills a step with the reading before it, whose number is replaced by the one on the straight line between the readings around the
// gap, at the beginning of the step. A step whose number would be NaN or infinite is left out.
func Linear[T any](of func(T) float64, with func(before T, number float64) T) Fill[T] {
	if of == nil || with == nil {
		return FillBy[T](nil)
	}
	return FillBy(func(g Gap[T]) (T, bool) {
		part := g.Part()
		n := of(g.Before)*(1-part) + of(g.After)*part
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return g.Before, false
		}
		return with(g.Before, n), true
	})
}
