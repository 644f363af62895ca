// Package stateful has the code of docs/operators/stateful.md.
package stateful

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
)

// Reading is what devices send.
type Reading struct {
	Device  string
	At      time.Time
	Celsius float64
}

func (r Reading) device() string { return r.Device }
func (r Reading) at() time.Time  { return r.At }

// [reduce]

func hottestSoFar(byDevice flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
	return operators.Reduce(byDevice, "hottest", func(hottest, r Reading) Reading {
		if r.Celsius > hottest.Celsius {
			return r
		}
		return hottest
	}, operators.IdleTTL(24*time.Hour))
}

// [scan]

func readingsSoFar(byDevice flow.KeyedStream[string, Reading]) flow.Stream[int] {
	return operators.Scan(byDevice, "count", func(n int, _ Reading) int { return n + 1 })
}

// [offline]

// Device is what is kept of a device.
type Device struct {
	Readings int
	Offline  bool
}

// Alarm says that a device has fallen silent, or is back.
type Alarm struct {
	Device  string
	At      flow.Timestamp
	Offline bool
}

type cell = operators.Cell[string, Device, Alarm]

func offline(byDevice flow.KeyedStream[string, Reading]) flow.Stream[Alarm] {
	return operators.Stateful(byDevice, "offline", 7*24*time.Hour,
		func(_ context.Context, c *cell, _ Reading) error {
			due := c.Timer()
			if due != flow.None && due <= c.Time() {
				// Silent for five minutes, but this reading came before the watermark that would have said so.
				c.Emit(Alarm{c.Key(), due, true})
				c.State.Offline = true
			}
			if c.State.Offline {
				c.Emit(Alarm{c.Key(), c.Time(), false})
			}
			c.State.Readings++
			c.State.Offline = false
			c.SetTimer(max(due, c.Time().Add(5*time.Minute))) // a late reading does not bring it forward
			return nil
		},
		operators.OnTimer(func(_ context.Context, c *cell, at flow.Timestamp) error {
			if c.Watermark() == flow.EndOfTime {
				return nil // the stream has ended, the device has not fallen silent
			}
			c.State.Offline = true
			c.Emit(Alarm{c.Key(), at, true})
			return nil
		}))
}

// [clock]

func offlineByClock(byDevice flow.KeyedStream[string, Reading]) flow.Stream[Alarm] {
	return operators.Stateful(byDevice, "offline", 0,
		func(_ context.Context, c *cell, _ Reading) error {
			c.SetClockTimer(c.Now().Add(5 * time.Minute))
			return nil
		},
		operators.OnClockTimer(func(_ context.Context, c *cell, _ flow.Timestamp) error {
			c.Emit(Alarm{c.Key(), c.Now(), true})
			c.Clear()
			return nil
		}))
}

// [side]

func inOrder(byDevice flow.KeyedStream[string, Reading]) (ordered, rest flow.Stream[Reading]) {
	t := byDevice.Topology()
	side, rest := flow.SideOutput[Reading](t, "in-order", "rest")
	ordered = operators.Stateful(byDevice, "in-order", time.Hour,
		func(_ context.Context, c *operators.Cell[string, time.Time, Reading], r Reading) error {
			if r.At.Before(*c.State) {
				operators.EmitTo(c, side, r)
				return nil
			}
			*c.State = r.At
			c.Emit(r)
			return nil
		}, operators.EmitsTo(side))
	return ordered, rest
}

// [clone]

// Tariffs is state behind a map.
type Tariffs struct{ ByHour map[int]float64 }

// Clone is asked for before each call. Every change below makes a new map, so the value itself will do.
func (t *Tariffs) Clone() Tariffs { return *t }

// [failing]

var errNegative = errors.New("negative temperature in the boiler")

func checked(byDevice flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
	return operators.Stateful(byDevice, "checked", 0,
		func(_ context.Context, c *operators.Cell[string, Device, Reading], r Reading) error {
			c.State.Readings++
			c.Emit(r)
			if r.Celsius < 0 {
				return errNegative // neither the count nor the result stays
			}
			return nil
		})
}

// [end]
