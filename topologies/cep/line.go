package cep

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// LineConfig describes a production line of three stations. The zero value has the defaults.
type LineConfig struct {
	// First, Second and Third are the stations in their order. They default to "cut", "drill" and "paint".
	First  string `yaml:"first"`
	Second string `yaml:"second"`
	Third  string `yaml:"third"`
	// Within is how long an item may take from the first station to the third. Defaults to 10 min.
	Within time.Duration `yaml:"within"`
}

func (c LineConfig) withDefaults() LineConfig {
	return LineConfig{First: or(c.First, "cut"), Second: or(c.Second, "drill"), Third: or(c.Third, "paint"), Within: or(c.Within, 10*time.Minute)}
}

// Finished is an item that passed all stations in their order and in time.
type Finished struct {
	Item string
	// Began and Ended are the times at the first and the third station.
	Began, Ended time.Time
}

// Faulty is an item that did not.
type Faulty struct {
	Item string
	// Missing are the stations that it did not pass, in the order of the line. One that it passed too early counts as missing.
	Missing []string
	// Began is its time at the first station. At is when the fault was found: at the third station, or when the time was up.
	Began, At time.Time
}

// Lined is the items that are finished, and beside them those that are not as they should be. Each item that enters the line is in one of
// the three, once.
type Lined[T any] struct {
	flow.Stream[Finished]
	skipped    flow.Stream[Faulty]
	unfinished flow.Stream[Faulty]
	late       flow.Stream[flow.Late[T]]
}

// Skipped is the items that came to the third station without the second one, or before it.
func (l Lined[T]) Skipped() flow.Stream[Faulty] { return l.skipped }

// Unfinished is the items that did not come to the third station in time.
func (l Lined[T]) Unfinished() flow.Stream[Faulty] { return l.unfinished }

// Late is the events that came too late to be judged.
func (l Lined[T]) Late() flow.Stream[flow.Late[T]] { return l.late }

// LinePattern is the pattern of Line: the first station, the second one if the item comes there, and the third. The second is greedy, so
// that an item which has passed it makes no match without it.
func LinePattern[T any](station func(T) string, cfg LineConfig) cep.Pattern[T] {
	cfg = cfg.withDefaults()
	at := func(name string) cep.StepOption[T] {
		return cep.Where(func(v T) bool { return station(v) == name })
	}
	return cep.Begin("first", at(cfg.First)).
		FollowedBy("second", at(cfg.Second), cep.OneOrMore(), cep.Greedy(), cep.Optional()).
		FollowedBy("third", at(cfg.Third)).
		Within(cfg.Within).
		AfterMatch(cep.SkipPastLast())
}

// passage is one match.
type passage struct {
	item           string
	second         bool
	began, reached time.Time
}

// Line follows items through a line of three stations. An item is finished at the third station, has skipped the second one if it has not
// come from there, and is unfinished when the time is up before it is there. What comes twice to a station within the time counts once. An item
// that does not enter at the first station is not followed.
//
// Order, lateness, state and what a crash does are those of operators.CEP.
func Line[T any](byItem flow.KeyedStream[string, T], name string, station func(T) string, cfg LineConfig) Lined[T] {
	cfg = cfg.withDefaults()
	once := operators.Dedup(byItem, name+"/once", station, cfg.Within)
	found := operators.CEP(once, name+"/pattern", LinePattern(station, cfg), func(_ context.Context, m cep.Match[string, T]) (passage, error) {
		return passage{m.Key, m.Has("second"), moment(m.Start), moment(m.End)}, nil
	})
	whole, partly := flow.Split(found.Stream, name+"/complete", func(p passage) bool { return p.second })
	finished := operators.Map(whole, name+"/finished", func(_ context.Context, p passage) (Finished, error) {
		return Finished{p.item, p.began, p.reached}, nil
	})
	skipped := operators.Map(partly, name+"/skipped", func(_ context.Context, p passage) (Faulty, error) {
		return Faulty{Item: p.item, Missing: []string{cfg.Second}, Began: p.began, At: p.reached}, nil
	})
	unfinished := operators.Map(found.TimedOut(), name+"/unfinished", func(_ context.Context, m cep.Match[string, T]) (Faulty, error) {
		f := Faulty{Item: m.Key, Missing: []string{cfg.Second, cfg.Third}, Began: moment(m.Start), At: moment(m.Time)}
		if m.Has("second") {
			f.Missing = f.Missing[1:]
		}
		return f, nil
	})
	return Lined[T]{finished, skipped, unfinished, found.Late()}
}

// Scan says that an item has come to a station.
type Scan struct {
	Item    string    `json:"item"`
	Station string    `json:"station"`
	At      time.Time `json:"at"`
}

// LineTopology is the whole chain: scans from a source, finished items to one sink, those that skipped a station or are not
// finished in time to two others. Scans of an item at one station count once, so the source may deliver again.
func LineTopology(scans flow.Source[Scan], finished flow.Sink[Finished], skipped, unfinished flow.Sink[Faulty], cfg LineConfig, times TimeConfig, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("line", opts...)
	at := func(s Scan) time.Time { return s.At }
	byItem := flow.KeyBy(timed(flow.From(t, "scans", scans), at, times), func(s Scan) string { return s.Item })
	items := Line(byItem, "line", func(s Scan) string { return s.Station }, cfg)
	flow.To(items, "finished", finished)
	flow.To(items.Skipped(), "skipped", skipped)
	flow.To(items.Unfinished(), "unfinished", unfinished)
	return t
}
