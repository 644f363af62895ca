package cep

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// OfflineConfig says when a device is offline. The zero value has the defaults.
type OfflineConfig struct {
	// Silent is how long nothing must have come of a device. Defaults to 5 min.
	Silent time.Duration `yaml:"silent"`
}

func (c OfflineConfig) silent() time.Duration { return or(c.Silent, 5*time.Minute) }

// Outage says that a device is silent, or that it is back. Both have the same ID.
type Outage struct {
	// ID is made of the device and of when the silence was long enough, and the same again when a crash makes a part of the stream run
	// again.
	ID string
	// Device is the stream's key.
	Device string
	// Over says that the device is back.
	Over bool
	// LastSeen is when the silence began.
	LastSeen time.Time
	// At is when the silence was long enough or, where it is over, the time of the event that ended it.
	At time.Time
}

// Outages is the outages that Offline finds.
type Outages[T any] struct {
	flow.Stream[Outage]
	late flow.Stream[flow.Late[T]]
}

// Late is the events that came too late to be judged: their device may have been told to be silent at a time at which it was not.
func (o Outages[T]) Late() flow.Stream[flow.Late[T]] { return o.late }

// OfflinePattern is the pattern of Offline: nothing for some time, which is a match, and then anything, which is another one.
func OfflinePattern[T any](cfg OfflineConfig) cep.Pattern[T] {
	return cep.BeginAbsent[T]("silent", cfg.silent()).
		FollowedBy("back", cep.Optional())
}

// Offline raises an alarm when a device that was heard before has been silent for some time, without any further event of it, and clears
// it when the device is heard again.
//
// Time passes with the watermark, that is with the events of other devices: while all are silent, nobody is told to be. The end of a bounded
// stream lets all time pass, so that all devices are silent then. A device that stays away costs one partial match, for as long as it does;
// cep.MaxTotal bounds them.
//
// Order, lateness and what a crash does are those of operators.CEP: each outage is raised and cleared once.
func Offline[T any](byDevice flow.KeyedStream[string, T], name string, cfg OfflineConfig) Outages[T] {
	silent := cfg.silent()
	found := operators.CEP(byDevice, name, OfflinePattern[T](cfg), func(_ context.Context, m cep.Match[string, T]) (Outage, error) {
		o := Outage{Device: m.Key, Over: m.Has("back"), LastSeen: moment(m.Start.Add(-silent)), At: moment(m.Start)}
		o.ID = fmt.Sprintf("offline/%s/%d", o.Device, o.At.UnixMilli())
		if o.Over {
			o.At = moment(m.End)
		}
		return o, nil
	})
	return Outages[T]{found, found.Late()}
}

// Heartbeat is a sign of life of a device.
type Heartbeat struct {
	Device string    `json:"device"`
	At     time.Time `json:"at"`
}

// OfflineTopology is the whole chain: signs of life from a source, outages that begin and end to a sink. Signs of one device and one
// moment count once, so the source may deliver again.
func OfflineTopology(heartbeats flow.Source[Heartbeat], outages flow.Sink[Outage], cfg OfflineConfig, times TimeConfig, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("offline", opts...)
	at := func(h Heartbeat) time.Time { return h.At }
	byDevice := flow.KeyBy(timed(flow.From(t, "heartbeats", heartbeats), at, times), func(h Heartbeat) string { return h.Device })
	once := fresh(byDevice, at, cfg.silent(), times)
	flow.To(Offline(once, "offline", cfg), "outages", outages)
	return t
}
