package cep_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/sources/gen"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

// printing is a sink that prints what format makes of records.
func printing[T any](format func(T) string) flow.Sink[T] {
	return flow.SinkFunc(func(_ context.Context, rs []flow.Record[T]) error {
		for _, r := range rs {
			fmt.Println(format(r.Value))
		}
		return nil
	})
}

func quiet() []flow.TopologyOption {
	return []flow.TopologyOption{flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.DiscardHandler)), flow.WithParallelism(1)}
}

const clock = "15:04:05"

// The press is warm, then hot for three readings, and has not cooled down two minutes later. The saw has, and the lathe's third hot
// reading has not come.
func ExampleOverheatTopology() {
	reading := func(machine string, second int, celsius float64) chains.Temperature {
		return chains.Temperature{Machine: machine, At: at(time.Duration(second) * time.Second), Celsius: celsius}
	}
	readings := gen.Slice(
		reading("press", 0, 85), reading("saw", 0, 85), reading("lathe", 0, 85),
		reading("press", 10, 92), reading("saw", 10, 92), reading("lathe", 10, 85),
		reading("press", 20, 95), reading("saw", 20, 95), reading("lathe", 20, 91),
		reading("press", 30, 93), reading("saw", 30, 93), reading("lathe", 30, 93),
		reading("press", 60, 70), reading("saw", 60, 55),
	)
	t := chains.OverheatTopology(readings,
		printing(func(o chains.Overheating) string {
			return fmt.Sprintf("%s: up to %v °C since %s, alarm at %s", o.Machine, o.Highest, o.Since.Format(clock), o.At.Format(clock))
		}),
		printing(func(a chains.AlmostOverheating) string {
			return fmt.Sprintf("%s: %d hot readings since %s", a.Machine, a.Hot, a.Since.Format(clock))
		}),
		chains.OverheatConfig{}, chains.TimeConfig{}, quiet()...)
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// press: up to 95 °C since 08:00:00, alarm at 08:02:00
	// lathe: 2 hot readings since 08:00:10
	// lathe: 1 hot readings since 08:00:20
}

// The valve is silent for more than five minutes. The meter's events tell what time it is.
func ExampleOfflineTopology() {
	var heartbeats []chains.Heartbeat
	for minute := range 12 {
		heartbeats = append(heartbeats, chains.Heartbeat{Device: "meter", At: at(time.Duration(minute) * time.Minute)})
		if minute < 2 || minute > 8 {
			heartbeats = append(heartbeats, chains.Heartbeat{Device: "valve", At: at(time.Duration(minute) * time.Minute)})
		}
	}
	heartbeats = append(heartbeats, chains.Heartbeat{Device: "end", At: at(12 * time.Minute)})
	t := chains.OfflineTopology(gen.Slice(heartbeats...), printing(func(o chains.Outage) string {
		switch {
		case o.At.After(at(12 * time.Minute)):
			return o.Device + " is silent since the stream has ended"
		case o.Over:
			return fmt.Sprintf("%s is back at %s", o.Device, o.At.Format(clock))
		}
		return fmt.Sprintf("%s is silent since %s, alarm at %s", o.Device, o.LastSeen.Format(clock), o.At.Format(clock))
	}), chains.OfflineConfig{}, chains.TimeConfig{}, quiet()...)
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// valve is silent since 08:01:00, alarm at 08:06:00
	// valve is back at 08:09:00
	// meter is silent since the stream has ended
	// valve is silent since the stream has ended
	// end is silent since the stream has ended
}

// Door 2 is painted before it is drilled, and door 3 gets no paint.
func ExampleLineTopology() {
	scan := func(minute int, item, station string) chains.Scan {
		return chains.Scan{Item: item, Station: station, At: at(time.Duration(minute) * time.Minute)}
	}
	scans := gen.Slice(
		scan(0, "door 1", "cut"), scan(1, "door 2", "cut"), scan(2, "door 1", "drill"), scan(2, "door 3", "cut"),
		scan(3, "door 2", "paint"), scan(4, "door 1", "paint"), scan(5, "door 2", "drill"), scan(6, "door 3", "drill"),
		scan(20, "door 4", "lunch"),
	)
	faulty := func(what string) flow.Sink[chains.Faulty] {
		return printing(func(f chains.Faulty) string {
			return fmt.Sprintf("%s %s %v, found at %s", f.Item, what, f.Missing, f.At.Format(clock))
		})
	}
	t := chains.LineTopology(scans, printing(func(f chains.Finished) string {
		return fmt.Sprintf("%s is finished after %v", f.Item, f.Ended.Sub(f.Began))
	}), faulty("has skipped"), faulty("is unfinished, it lacks"), chains.LineConfig{}, chains.TimeConfig{}, quiet()...)
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// door 1 is finished after 4m0s
	// door 2 has skipped [drill], found at 08:03:00
	// door 3 is unfinished, it lacks [paint], found at 08:12:00
}
