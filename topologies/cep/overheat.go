package cep

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// OverheatConfig says when a machine is too hot. The zero value has the defaults. Of the three temperatures all must be set, or none.
type OverheatConfig struct {
	// Warm is the temperature in °C above which a machine is suspected. Defaults to 80.
	Warm float64 `yaml:"warm"`
	// Hot is the temperature in °C above which the readings behind it must be. Defaults to 90.
	Hot float64 `yaml:"hot"`
	// Times is how many hot readings in a row there must be. Defaults to 3.
	Times int `yaml:"times"`
	// Cooled is the temperature in °C below which a machine has recovered, and raises no alarm. Defaults to 60.
	Cooled float64 `yaml:"cooled"`
	// Within is the time from the warm reading in which the hot ones must come, and in which none may be cooled. Defaults to 2 min.
	Within time.Duration `yaml:"within"`
	// Quiet is how long no further alarm of the machine is raised behind one: a machine that stays hot would have one for every few
	// readings. Defaults to 10 min.
	Quiet time.Duration `yaml:"quiet"`
}

func (c OverheatConfig) withDefaults() OverheatConfig {
	if c.Warm == 0 && c.Hot == 0 && c.Cooled == 0 {
		c.Warm, c.Hot, c.Cooled = 80, 90, 60
	}
	c.Times, c.Within, c.Quiet = or(c.Times, 3), or(c.Within, 2*time.Minute), or(c.Quiet, 10*time.Minute)
	return c
}

// Overheating says that a machine was warm, then hot, and did not cool down.
type Overheating struct {
	// ID is made of the machine and Since, and the same again when a crash makes a part of the stream run again.
	ID string
	// Machine is the stream's key.
	Machine string
	// Since is the time of the warm reading, At when the time in which the machine could have cooled down was over.
	Since, At time.Time
	// Highest is the highest temperature among the readings, in °C.
	Highest float64
}

// AlmostOverheating says that a machine became hot, and then sent too few readings for an alarm before the time was up.
type AlmostOverheating struct {
	Machine string
	// Since is the time of the warm reading, At when the time was up.
	Since, At time.Time
	// Hot is how many hot readings there were.
	Hot int
}

// Overheated is the alarms of Overheat, and beside them what did not become one.
type Overheated[T any] struct {
	flow.Stream[Overheating]
	almost flow.Stream[AlmostOverheating]
	late   flow.Stream[flow.Late[T]]
}

// Almost is the machines that were on the way to an alarm when the time was up, once for each reading that could have been the warm one.
// Machines that cooled down are not among them; one that has an alarm may be, since its later readings have begun partial matches of
// their own.
func (o Overheated[T]) Almost() flow.Stream[AlmostOverheating] { return o.almost }

// Late is the readings that came too late to be judged.
func (o Overheated[T]) Late() flow.Stream[flow.Late[T]] { return o.late }

// OverheatPattern is the pattern of Overheat: a warm reading, hot ones right behind it, and none that is cooled until the time is up. A
// match takes all partial matches with it that began before its last reading.
func OverheatPattern[T any](celsius func(T) float64, cfg OverheatConfig) cep.Pattern[T] {
	cfg = cfg.withDefaults()
	return cep.Begin("warm", cep.Where(func(v T) bool { return celsius(v) > cfg.Warm })).
		Next("hot", cep.Where(func(v T) bool { return celsius(v) > cfg.Hot }), cep.Times(cfg.Times), cep.Consecutive()).
		NotFollowedBy("cooled", cep.Where(func(v T) bool { return celsius(v) < cfg.Cooled })).
		Within(cfg.Within).
		AfterMatch(cep.SkipPastLast())
}

// Overheat raises an alarm for machines that are warm, then hot for several readings in a row, and do not cool down until the time is up.
// An alarm so comes when Within has gone by since the warm reading: that is the confirmation.
//
// Order, lateness, state and what a crash does are those of operators.CEP and operators.Dedup: each alarm once, also when a crash lies
// between its readings. NaN is neither warm nor cooled.
func Overheat[T any](byMachine flow.KeyedStream[string, T], name string, celsius func(T) float64, cfg OverheatConfig) Overheated[T] {
	cfg = cfg.withDefaults()
	found := operators.CEP(byMachine, name+"/pattern", OverheatPattern(celsius, cfg), func(_ context.Context, m cep.Match[string, T]) (Overheating, error) {
		a := Overheating{Machine: m.Key, Since: moment(m.Start), At: moment(m.Start.Add(cfg.Within)), Highest: celsius(m.First("warm"))}
		a.ID = fmt.Sprintf("overheating/%s/%d", a.Machine, a.Since.UnixMilli())
		for _, v := range m.Of("hot") {
			a.Highest = max(a.Highest, celsius(v))
		}
		return a, nil
	})
	almost := operators.Map(found.TimedOut(), name+"/almost", func(_ context.Context, m cep.Match[string, T]) (AlmostOverheating, error) {
		return AlmostOverheating{Machine: m.Key, Since: moment(m.Start), At: moment(m.Time), Hot: len(m.Of("hot"))}, nil
	})
	suspected := operators.Filter(almost, name+"/suspected", func(a AlmostOverheating) bool { return a.Hot > 0 })
	alarms := flow.KeyBy(found, func(a Overheating) string { return a.Machine })
	quiet := operators.Dedup(alarms, name+"/quiet", func(Overheating) struct{} { return struct{}{} }, cfg.Quiet)
	return Overheated[T]{quiet.Unkeyed(), suspected, found.Late()}
}

// Temperature is a reading of a machine's thermometer.
type Temperature struct {
	Machine string    `json:"machine"`
	At      time.Time `json:"at"`
	Celsius float64   `json:"celsius"`
}

// OverheatTopology is the whole chain: readings from a source, alarms to one sink, what was almost one to another. Readings of one machine
// and one moment count once, so the source may deliver again.
func OverheatTopology(readings flow.Source[Temperature], alarms flow.Sink[Overheating], almost flow.Sink[AlmostOverheating],
	cfg OverheatConfig, times TimeConfig, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("overheat", opts...)
	at := func(r Temperature) time.Time { return r.At }
	byMachine := flow.KeyBy(timed(flow.From(t, "readings", readings), at, times), func(r Temperature) string { return r.Machine })
	once := fresh(byMachine, at, cfg.withDefaults().Within, times)
	found := Overheat(once, "overheat", func(r Temperature) float64 { return r.Celsius }, cfg)
	flow.To(found, "alarms", alarms)
	flow.To(found.Almost(), "almost", almost)
	return t
}
