package harness

import (
	"context"
	"fmt"
	"time"
)

// Sustainable is what a search for the highest rate found.
type Sustainable struct {
	// Rate is the highest offered rate, in events a second, at which latency stayed bounded; 0 if it did at none.
	Rate float64
	// Probes are the runs, in order.
	Probes []Probe
}

// Probe is one rate that was tried.
type Probe struct {
	Rate float64
	Run  Run
	// Why it was too much, "" where it was not.
	Why string
}

// Search finds the sustainable throughput of a scenario by bisection, to within 5 %: each step offers a rate for the settings' duration behind
// the warm-up. A rate is sustained when 99 % of the events are out within bound, and the second half of the time is no slower than twice
// the first. It begins at half of what a closed load reaches.
func Search(ctx context.Context, s Scenario, set Settings, bound time.Duration, progress func(string)) (Sustainable, error) {
	if progress == nil {
		progress = func(string) {}
	}
	set.Rate, set.Runs, set.Events = 0, 1, 0
	closed, err := Measure(ctx, s, set, progress)
	if err != nil {
		return Sustainable{}, err
	}
	low, high := 0.0, closed.Runs[0].PerSecond*1.1
	var found Sustainable
	for rate := high / 2; high-low > 0.05*high; rate = (low + high) / 2 {
		set.Rate = rate
		r, err := Measure(ctx, s, set, progress)
		if err != nil {
			return found, err
		}
		p := Probe{Rate: rate, Run: r.Runs[0]}
		if p.Why = tooMuch(&p.Run, bound); p.Why == "" {
			low = rate
		} else {
			high = rate
		}
		found.Probes = append(found.Probes, p)
		if p.Why == "" {
			progress(fmt.Sprintf("%s sustains %s events/s", s.Name(), number(rate)))
		} else {
			progress(fmt.Sprintf("%s does not sustain %s events/s: %s", s.Name(), number(rate), p.Why))
		}
	}
	found.Rate = low
	return found, nil
}

// result is what a search leaves behind: the last run that was sustained.
func (s Sustainable) result(of Scenario, set Settings, bound time.Duration) Result {
	r := Result{
		Scenario: of.Name(), About: of.About(), Settings: set, Machine: ThisMachine(), At: time.Now().UTC().Truncate(time.Second),
		Sustained: &Sustained{Rate: s.Rate, Bound: bound, Probes: len(s.Probes)},
	}
	r.Settings.Rate, r.Settings.Runs = s.Rate, 0
	for i := range s.Probes {
		if s.Probes[i].Rate == s.Rate {
			r.Runs, r.Settings.Runs = []Run{s.Probes[i].Run}, 1
		}
	}
	return r
}

func tooMuch(r *Run, bound time.Duration) string {
	switch l := r.Latency; {
	case l == nil:
		return "nothing came out"
	case time.Duration(l.P99)*time.Microsecond > bound:
		return fmt.Sprintf("p99 is %v", time.Duration(l.P99)*time.Microsecond)
	case r.Growth > 2 && time.Duration(l.P99)*time.Microsecond > bound/10:
		return fmt.Sprintf("latency grows: p99 of the second half is %.1f times that of the first", r.Growth)
	}
	return ""
}
