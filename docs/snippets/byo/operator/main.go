// Command operator corrects readings and tells which devices have fallen silent, by two operators of its own: one without state and
// one with state and timers per device.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/sources/gen"
)

// Reading is what a device measures.
type Reading struct {
	Device  string
	At      time.Time
	Celsius float64
}

// Silence says that a device has sent nothing for a while.
type Silence struct {
	Device string
	Since  time.Time
	// Readings are how many came before.
	Readings int64
}

// [stateless]

// calibrate adds each device's correction to its readings.
type calibrate struct{ by map[string]float64 }

func (c *calibrate) Process(_ context.Context, r *flow.Record[Reading], out *flow.Output[Reading]) error {
	correction, known := c.by[r.Value.Device]
	if !known {
		return fmt.Errorf("no correction for device %q", r.Value.Device) // to the dead letters, this record only
	}
	v := out.Next(r.Time, r.Meta) // filled in place: no copy, no allocation
	*v = r.Value
	v.Celsius += correction
	return nil
}

// Calibrate looks like a built-in operator: stream first, then the node's name, then what it needs.
func Calibrate(s flow.Stream[Reading], name string, by map[string]float64) flow.Stream[Reading] {
	return flow.Apply[Reading, Reading](s, name, func() *calibrate { return &calibrate{by} })
}

// [keyed]

// silence notices devices that fall silent. Its fields are the state of one task: the engine stores them with each epoch, and
// after a crash they are as the last one left them.
type silence struct {
	after  time.Duration
	seen   flow.State[string, seen]
	timers flow.Timers[string]
}

type seen struct {
	Last     flow.Timestamp
	Readings int64
}

func (s *silence) Open(_ context.Context, rt flow.Runtime) error {
	if err := flow.OpenState(rt, "seen", &s.seen); err != nil {
		return err
	}
	return flow.OpenTimers(rt, &s.timers)
}

func (s *silence) Process(_ context.Context, device string, r *flow.Record[Reading], _ *flow.Output[Silence]) error {
	v := s.seen.Get(device) // made when it is not there, and stored with the epoch
	if v.Readings > 0 {
		s.timers.Clear(device, v.Last.Add(s.after))
	}
	v.Readings++
	v.Last = max(v.Last, r.Time)
	s.timers.Set(device, v.Last.Add(s.after)) // event time: a replay of last week's data fires as last week did
	return nil
}

func (s *silence) OnTimer(_ context.Context, device string, at flow.Timestamp, out *flow.Output[Silence]) error {
	v := s.seen.Peek(device)
	*out.Next(at, nil) = Silence{Device: device, Since: v.Last.Time(), Readings: v.Readings}
	s.seen.Delete(device) // nothing is kept of devices that are gone
	return nil
}

// Silent takes a keyed stream, since it has state: without flow.KeyBy before it, it does not compile.
func Silent(s flow.KeyedStream[string, Reading], name string, after time.Duration) flow.Stream[Silence] {
	return flow.ApplyKeyed[string, Reading, Silence](s, name, func() *silence { return &silence{after: after} })
}

// [end]

func device(r Reading) string { return r.Device }
func at(r Reading) time.Time  { return r.At }

// [topology]
func topology(readings flow.Source[Reading], show func(context.Context, []flow.Record[Silence]) error) *flow.Topology {
	t := flow.New("silence", flow.WithStore(state.InMemory()))
	timed := flow.AssignTime(flow.From(t, "readings", readings), "event-time", at, watermark.BoundedOutOfOrderness(time.Second))
	right := Calibrate(timed, "calibrate", map[string]float64{"d1": 0.5, "d2": -0.25})
	flow.To(Silent(flow.KeyBy(right, device), "silent", time.Minute), "show", flow.SinkFunc(show))
	return t
}

// [end]

// reading is number i: d1 measures every second, d2 stops after ten.
func reading(i int64) Reading {
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC).Add(time.Duration(i/2) * time.Second)
	if i%2 == 1 && i < 20 {
		return Reading{Device: "d2", At: at, Celsius: 19}
	}
	return Reading{Device: "d1", At: at, Celsius: 20}
}

func main() {
	show := func(_ context.Context, batch []flow.Record[Silence]) error {
		for _, r := range batch {
			fmt.Printf("%s is silent since %s, after %d readings\n", r.Value.Device, r.Value.Since.Format(time.TimeOnly), r.Value.Readings)
		}
		return nil
	}
	if err := topology(gen.Source(reading, gen.Count(200)), show).Run(context.Background()); err != nil {
		log.Print(err)
	}
}
