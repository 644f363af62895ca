package harness

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Settings are those of a measurement.
type Settings struct {
	// Rate is how many events a second are offered; 0 offers them as fast as they are taken. Defaults to 0.
	Rate float64 `json:"rate"`
	// WarmUp is how long events flow before anything is measured. 0 measures at once.
	WarmUp time.Duration `json:"warm_up_ns"`
	// Duration is how long is measured. Zero means 5 s.
	Duration time.Duration `json:"duration_ns"`
	// Events ends each run after so many events instead. Zero does not.
	Events int64 `json:"events,omitempty"`
	// Runs is how often. Zero means 1; comparing two results takes at least 4 of each.
	Runs int `json:"runs"`
	// Nodes takes a profile of each run, to tell which kinds of nodes the processor time went to.
	Nodes bool `json:"nodes,omitempty"`
}

// Run is one run's measurements. What is "per event" counts events taken from the load behind the warm-up.
type Run struct {
	Events    int64   `json:"events"`
	Out       int64   `json:"out"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"events_per_second"`
	// CPU is microseconds of processor time of the whole process per event, that is seconds per million.
	CPU    float64 `json:"cpu_us_per_event"`
	Allocs float64 `json:"allocs_per_event"`
	Bytes  float64 `json:"bytes_per_event"`
	// GC is the part of the processor time that the garbage collector took.
	GC  float64 `json:"gc_share"`
	RSS int64   `json:"peak_rss_bytes"`
	// Latency is from when an event was due to when what came of it was durable; nil for closed loads.
	Latency *Latency `json:"latency,omitempty"`
	// Lost and Repeats count events, where the scenario says that each comes out once.
	Lost    int64   `json:"lost"`
	Repeats int64   `json:"repeats"`
	Epochs  Epochs  `json:"epochs"`
	Growth  float64 `json:"latency_growth,omitempty"`
	// Nodes is where the processor time went, warm-up included, the most first; empty where no profile was taken.
	Nodes []NodeTime `json:"nodes,omitempty"`
}

// NodeTime is the part of the processor time that nodes of one kind took.
type NodeTime struct {
	Node  string  `json:"node"`
	Share float64 `json:"share"`
}

// Latency is in microseconds.
type Latency struct {
	P50  int64 `json:"p50_us"`
	P99  int64 `json:"p99_us"`
	P999 int64 `json:"p999_us"`
	Max  int64 `json:"max_us"`
}

// Measure runs a scenario as often as the settings say. progress, if it is not nil, is told what is being done.
func Measure(ctx context.Context, s Scenario, set Settings, progress func(string)) (Result, error) {
	r, err := MeasureInTurns(ctx, []Scenario{s}, set, progress)
	return r[0], err
}

// MeasureInTurns runs each scenario once, then each a second time, and so on, as often as the settings say: what makes a machine slow for
// minutes then slows all of them, and what they have to each other stays. The results are in the order of the scenarios; with an error they
// hold the runs before it.
func MeasureInTurns(ctx context.Context, all []Scenario, set Settings, progress func(string)) ([]Result, error) {
	if set.Duration <= 0 {
		set.Duration = 5 * time.Second
	}
	if set.Runs <= 0 {
		set.Runs = 1
	}
	if progress == nil {
		progress = func(string) {}
	}
	rs := make([]Result, len(all))
	for i, s := range all {
		rs[i] = Result{Scenario: s.Name(), About: s.About(), Settings: set, Machine: ThisMachine(), At: time.Now().UTC().Truncate(time.Second)}
	}
	for turn := range set.Runs {
		for i, s := range all {
			run, err := measureOnce(ctx, s, set, func(t string) { progress(fmt.Sprintf("%s %d/%d %s", s.Name(), turn+1, set.Runs, t)) })
			if err != nil {
				return rs, fmt.Errorf("scenario %s, run %d: %w", s.Name(), turn+1, err)
			}
			rs[i].Runs = append(rs[i].Runs, run)
		}
	}
	return rs, nil
}

func measureOnce(ctx context.Context, s Scenario, set Settings, progress func(string)) (Run, error) {
	l := NewLoad(set.Rate, set.WarmUp, set.Duration, set.Events)
	m := NewMeter(l)
	if set.Nodes {
		m.profile = &profiler{}
	}
	forgetPeak()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		m.watch(ctx, set, progress)
	}()
	err := s.Run(ctx, l, m)
	m.End()
	cancel()
	<-watched
	if err != nil {
		return Run{}, err
	}
	return m.result()
}

// watch begins the measurement behind the warm-up and says how it goes.
func (m *Meter) watch(ctx context.Context, set Settings, progress func(string)) {
	var warm <-chan time.Time
	start := m.start
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := m.load.Taken()
	for {
		select {
		case <-ctx.Done():
			return
		case <-start:
			start = nil
			if set.WarmUp > 0 {
				warm = time.After(set.WarmUp)
			}
		case <-warm:
			m.begin(false)
			warm = nil
		case <-tick.C:
			n := m.load.Taken()
			progress(fmt.Sprintf("%d events/s", n-last))
			last = n
		}
	}
}

func (m *Meter) result() (Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, wall := m.to.used, m.to.at.Sub(m.began)
	r := Run{Events: m.to.taken - m.at, Out: m.out, Seconds: wall.Seconds(), RSS: m.to.rss, Lost: m.lost(), Repeats: m.repeats, Epochs: m.epochs, Nodes: m.nodes}
	if m.times.TotalCount() > 0 {
		r.Epochs.P50, r.Epochs.Longest = m.times.ValueAtQuantile(50), m.times.Max()
	}
	if r.Events <= 0 {
		return r, errors.New("no event was taken behind the warm-up: give a longer duration, or a shorter warm-up")
	}
	n := float64(r.Events)
	cpu := now.cpu - m.from.cpu
	r.PerSecond, r.CPU = n/r.Seconds, float64(cpu.Microseconds())/n
	r.Allocs, r.Bytes = float64(now.allocs-m.from.allocs)/n, float64(now.bytes-m.from.bytes)/n
	if cpu > 0 {
		r.GC = (now.gc - m.from.gc) / cpu.Seconds()
	}
	if h := m.latency; m.load.Open() && h.TotalCount() > 0 {
		r.Latency = &Latency{h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
		if first := m.halves[0].ValueAtQuantile(99); first > 0 {
			r.Growth = float64(m.halves[1].ValueAtQuantile(99)) / float64(first)
		}
	}
	return r, nil
}
