package gen_test

import (
	"context"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sources/gen"
)

type reading struct {
	device      string
	temperature int
}

// show runs a source as the engine does and prints what comes.
func show[T any](src flow.Source[T]) {
	ctx := context.Background()
	if err := src.Open(ctx, flow.SourceRuntime{Clock: flow.SystemClock()}); err != nil {
		fmt.Println(err)
		return
	}
	if err := src.Read(ctx, flow.Partition{ID: "0"}, flow.Position{}, flow.NewIntake[T](printer[T]{})); err != nil {
		fmt.Println(err)
	}
}

type printer[T any] struct{ flow.IntakeBackend[T] }

func (printer[T]) Buffer() []flow.Record[T] { return nil }
func (printer[T]) Idle()                    {}
func (printer[T]) Lag(int64)                {}

func (printer[T]) Emit(_ context.Context, batch []flow.Record[T], upTo flow.Position) error {
	for _, r := range batch {
		fmt.Println(r.Value)
	}
	return nil
}

func ExampleSource() {
	show(gen.Source(func(i int64) reading {
		r := gen.At(1, i)
		return reading{device: fmt.Sprint("dev-", i%2), temperature: 20 + r.IntN(1)}
	}, gen.Count(3), gen.Rate(1000)))
	// Output:
	// {dev-0 20}
	// {dev-1 20}
	// {dev-0 20}
}

func ExampleFunc() {
	show(gen.Func(func(i int64, emit func(string)) {
		if i == 1 {
			return // a silent device
		}
		emit(fmt.Sprint("reading ", i))
		if i == 2 {
			emit(fmt.Sprint("reading ", i)) // delivered twice
		}
	}, gen.Count(3)))
	// Output:
	// reading 0
	// reading 2
	// reading 2
}

func ExampleSlice() {
	show(gen.Slice("a", "b"))
	// Output:
	// a
	// b
}
