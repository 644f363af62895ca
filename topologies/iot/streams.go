package iot

import (
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Accepted lets readings pass and drops heartbeats.
func Accepted(raw flow.Stream[Reading], name string) flow.Stream[Reading] {
	return operators.Filter(raw, name, func(r Reading) bool { return !r.Heartbeat() })
}

// Cleaned is a stream of readings that count, and beside it those that do not.
type Cleaned struct {
	flow.Stream[Placed]
	badClock flow.Stream[flow.Late[Reading]]
	invalid  flow.Stream[Reading]
}

// BadClock is the readings whose time is too far ahead of the broker's clock.
func (c Cleaned) BadClock() flow.Stream[flow.Late[Reading]] { return c.badClock }

// Invalid is the readings with values that the sensors cannot measure.
func (c Cleaned) Invalid() flow.Stream[Reading] { return c.invalid }

// Clean gives readings their event time, sets those aside that cannot be right, and adds what is known about the site. A site that is not
// in the table has UnknownRegion. It must stand right behind a source, as AssignTime must.
func Clean(accepted flow.Stream[Reading], name string, sites map[string]Site, cfg TimeConfig) Cleaned {
	timed := flow.AssignTime(accepted, name+"/event-time", Reading.At,
		watermark.BoundedOutOfOrderness(cfg.OutOfOrderness).IdleAfter(cfg.IdleAfter).MaxFutureSkew(cfg.MaxFutureSkew))
	valid, invalid := flow.Split(timed, name+"/in-range", Reading.Valid)
	placed := operators.Enrich(valid, name+"/site", operators.Table[string, Site](sites), siteOf, place)
	return Cleaned{placed, timed.BadClock(), invalid}
}

func siteOf(r Reading) string { return r.Site }

func place(r Reading, site Site, found bool) (Placed, error) {
	if !found {
		site.Region = UnknownRegion
	}
	return Placed{
		DeviceID: r.DeviceID, Site: r.Site, Region: site.Region, TS: r.TS, Seq: r.Seq, Temperature: r.Temperature, Humidity: r.Humidity,
	}, nil
}

// Fresh keys readings by device and drops repeats.
func Fresh(placed flow.Stream[Placed], name string, cfg DedupConfig) flow.KeyedStream[string, Placed] {
	return operators.Dedup(flow.KeyBy(placed, Placed.Device), name, Placed.EventID, cfg.TTL, operators.MaxEntries(cfg.MaxEntries))
}

// PerMinute aggregates the temperatures of each device and minute of event time. Readings that come when their minute is closed are
// in Late.
func PerMinute(fresh flow.KeyedStream[string, Placed], name string, cfg TimeConfig) operators.Windowed[string, Placed, Minute] {
	return operators.Window(fresh, name, window.Tumbling(cfg.Window), perMinute(), window.AllowedLateness(cfg.AllowedLateness))
}

func perMinute() agg.Aggregate[Placed, Minute] {
	temperature := func(p Placed) float64 { return p.Temperature }
	return agg.Into(
		agg.To(func(m *Minute) *int64 { return &m.Count }, agg.Count(temperature)),
		agg.To(func(m *Minute) *float64 { return &m.Avg }, agg.Avg(temperature)),
		agg.To(func(m *Minute) *float64 { return &m.Min }, agg.Min(temperature)),
		agg.To(func(m *Minute) *float64 { return &m.Max }, agg.Max(temperature)),
		agg.To(func(m *Minute) *string { return &m.Site }, agg.Last(func(p Placed) string { return p.Site })),
		agg.To(func(m *Minute) *string { return &m.Region }, agg.Last(func(p Placed) string { return p.Region })),
	)
}
