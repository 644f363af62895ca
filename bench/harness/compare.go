package harness

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// quantity is something that runs are compared by.
type quantity struct {
	name string
	of   func(*Run) (float64, bool)
	// more: a greater value is better.
	more bool
}

var quantities = []quantity{
	{"events/s", func(r *Run) (float64, bool) { return r.PerSecond, true }, true},
	{"CPU us/event", func(r *Run) (float64, bool) { return r.CPU, true }, false},
	{"allocs/event", func(r *Run) (float64, bool) { return r.Allocs, true }, false},
	{"bytes/event", func(r *Run) (float64, bool) { return r.Bytes, true }, false},
	{"p50 us", latency(func(l *Latency) int64 { return l.P50 }), false},
	{"p99 us", latency(func(l *Latency) int64 { return l.P99 }), false},
	{"p99.9 us", latency(func(l *Latency) int64 { return l.P999 }), false},
}

func latency(f func(*Latency) int64) func(*Run) (float64, bool) {
	return func(r *Run) (float64, bool) {
		if r.Latency == nil {
			return 0, false
		}
		return float64(f(r.Latency)), true
	}
}

// Difference is what a quantity of a scenario came to before and after.
type Difference struct {
	Scenario, Quantity string
	// Before and After are medians.
	Before, After float64
	// P is the probability to see such a difference where there is none (Mann-Whitney U test).
	P float64
	// Differs: P is below 0.05. Better says which way.
	Differs, Better bool
	// Few says why no statement is made, "" where one is.
	Few string
}

// leastRuns is how many runs of each it takes for the test to be able to find a difference.
const leastRuns = 4

// Compare compares the scenarios that both have, at the same rate.
func Compare(before, after []Result) ([]Difference, error) {
	var all []Difference
	for i := range before {
		for j := range after {
			if before[i].file() == after[j].file() {
				all = append(all, compare(&before[i], &after[j])...)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the two have no scenario in common")
	}
	return all, nil
}

func compare(before, after *Result) (ds []Difference) {
	for _, q := range quantities {
		a, b := values(before, q), values(after, q)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		one, two := benchmath.NewSample(a, &benchmath.DefaultThresholds), benchmath.NewSample(b, &benchmath.DefaultThresholds)
		d := Difference{
			Scenario: before.Scenario, Quantity: q.name,
			Before: benchmath.AssumeNothing.Summary(one, 0.95).Center, After: benchmath.AssumeNothing.Summary(two, 0.95).Center,
		}
		if len(a) < leastRuns || len(b) < leastRuns {
			d.Few = fmt.Sprintf("%d and %d runs: at least %d of each are needed", len(a), len(b), leastRuns)
		} else {
			c := benchmath.AssumeNothing.Compare(one, two)
			d.P = c.P
			d.Differs = c.P < c.Alpha && d.Before != d.After
			d.Better = d.Differs && (d.After > d.Before) == q.more
		}
		ds = append(ds, d)
	}
	return ds
}

func values(r *Result, q quantity) (v []float64) {
	for i := range r.Runs {
		if x, ok := q.of(&r.Runs[i]); ok {
			v = append(v, x)
		}
	}
	return v
}

// String says it in words.
func (d Difference) String() string {
	switch {
	case d.Few != "":
		return d.Few
	case !d.Differs:
		return fmt.Sprintf("no difference (p=%.2f)", d.P)
	case d.Better:
		return fmt.Sprintf("better by %.1f %% (p=%.3f)", 100*d.change(), d.P)
	}
	return fmt.Sprintf("worse by %.1f %% (p=%.3f)", 100*d.change(), d.P)
}

func (d Difference) change() float64 {
	if d.Before == 0 {
		return math.Inf(1)
	}
	return math.Abs(d.After-d.Before) / d.Before
}

// Table prints differences.
func Table(ds []Difference) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tquantity\tbefore\tafter\t")
	for _, d := range ds {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Scenario, d.Quantity, number(d.Before), number(d.After), d)
	}
	_ = w.Flush()
	return b.String()
}

// number prints three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
