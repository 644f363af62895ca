package iotbench

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Place says in which groups a sensor is from At (ms) on: a room, the room's floor, and the building.
type Place struct {
	Sensor int64
	At     int64
	Groups [3]int64
}

// Time is At as a time.Time.
func (p Place) Time() time.Time { return time.UnixMilli(p.At) }

// Groups are numbered: the building is 0, floors follow, then rooms.
const (
	floors        = 10
	roomsPerFloor = 10
	building      = int64(0)
)

// Places is where all sensors are from the beginning on, and that every tenth moves to another room later, one every 10 ms.
func (s Size) Places() []Place {
	place := func(sensor, room, at int64) Place {
		return Place{sensor, at, [3]int64{building, 1 + room/roomsPerFloor, 1 + floors + room}}
	}
	const rooms = floors * roomsPerFloor
	var all []Place
	for i := range int64(s.Devices) {
		all = append(all, place(i, i%rooms, begin))
	}
	for i := int64(0); i < int64(s.Devices); i += 10 {
		all = append(all, place(i, (i+37)%rooms, begin+1000+i))
	}
	return all
}

func groupName(g int64) string {
	switch {
	case g == building:
		return "building"
	case g <= floors:
		return fmt.Sprintf("floor-%d", g)
	}
	return fmt.Sprintf("room-%d", g-floors)
}

// member is a sensor in a group.
type member struct {
	Group, Sensor int64
	Watts         float64
	N             int64
}

// load is what a group comes to.
type load struct {
	Watts   float64
	Sensors int64
	Last    int64
}

// uc4 is the power of groups of groups: of each sensor the last value in 5 s, added up per group. Where a sensor is, a second stream says.
func uc4(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	bySensor := flow.KeyBy(timedPowers(t, l, s), sensorOf)
	places := flow.AssignTime(flow.From(t, "places", listed(s.Places())), "place-time", Place.Time, inOrder())
	type placed struct {
		Power
		Groups [3]int64
		Known  bool
	}
	located := operators.AsOf(bySensor, flow.KeyBy(places, func(p Place) int64 { return p.Sensor }), "located",
		func(p Power, at Place, found bool) placed { return placed{p, at.Groups, found} })
	members := operators.FlatMap(located, "members", func(_ context.Context, p placed, emit func(member)) error {
		if p.Known {
			for _, g := range p.Groups {
				emit(member{g, p.Sensor, p.Watts, p.N})
			}
		}
		return nil
	})
	byMember := flow.KeyBy(members, func(m member) int64 { return m.Group<<32 | m.Sensor })
	latest := operators.Window(byMember, "latest", window.Tumbling(5*time.Second), agg.Last(agg.Itself[member]))
	type last = window.Result[int64, member]
	byGroup := flow.KeyBy[int64, last](latest, func(r last) int64 { return r.Value.Group })
	sums := operators.Window(byGroup, "groups", window.Tumbling(5*time.Second), agg.Into(
		agg.To(func(l *load) *float64 { return &l.Watts }, agg.Sum(func(r last) float64 { return r.Value.Watts })),
		agg.To(func(l *load) *int64 { return &l.Sensors }, agg.Count(func(r last) int64 { return r.Key })),
		agg.To(func(l *load) *int64 { return &l.Last }, agg.Max(func(r last) int64 { return r.Value.N })),
	))
	return operators.Map(sums, "row", func(_ context.Context, r window.Result[int64, load]) (Row, error) {
		return Row{Key: groupName(r.Key), At: end(r.End), Count: r.Value.Sensors, Value: r.Value.Watts, N: r.Value.Last}, nil
	})
}
