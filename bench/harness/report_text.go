package harness

import (
	"fmt"
	"slices"
	"time"
)

func perSecond(r *Run) (float64, bool) { return r.PerSecond, r.PerSecond > 0 }
func cpuTime(r *Run) (float64, bool)   { return r.CPU, r.CPU > 0 }
func allocs(r *Run) (float64, bool)    { return r.Allocs, true }
func bytesEach(r *Run) (float64, bool) { return r.Bytes, true }
func p50(l *Latency) int64             { return l.P50 }
func p99(l *Latency) int64             { return l.P99 }
func p999(l *Latency) int64            { return l.P999 }

func sorted(r *Result, of func(*Run) (float64, bool)) []float64 {
	v := values(r, quantity{of: of})
	slices.Sort(v)
	return v
}

// median is that of a result's runs; ok is false where none has the value.
func median(r *Result, of func(*Run) (float64, bool)) (m float64, ok bool) {
	v := sorted(r, of)
	if len(v) == 0 {
		return 0, false
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2, true
}

func middle(r *Result, of func(*Run) (float64, bool)) string {
	if m, ok := median(r, of); ok {
		return number(m)
	}
	return ""
}

// spread is the median, and the least and the greatest where they differ.
func spread(r *Result, of func(*Run) (float64, bool)) string {
	s := middle(r, of)
	if v := sorted(r, of); len(v) > 1 && number(v[0]) != number(v[len(v)-1]) {
		s += fmt.Sprintf(" (%s to %s)", number(v[0]), number(v[len(v)-1]))
	}
	return s
}

func share(r *Result) string {
	if m, ok := median(r, func(x *Run) (float64, bool) { return x.GC, x.GC > 0 }); ok {
		return fmt.Sprintf("%.0f %%", 100*m)
	}
	return ""
}

func memory(r *Result) string {
	if m, ok := median(r, func(x *Run) (float64, bool) { return float64(x.RSS >> 20), x.RSS > 0 }); ok {
		return fmt.Sprintf("%.0f MiB", m)
	}
	return ""
}

func losses(r *Result) (lost, repeats string) {
	var l, d int64
	for i := range r.Runs {
		l, d = l+r.Runs[i].Lost, d+r.Runs[i].Repeats
	}
	return fmt.Sprint(l), fmt.Sprint(d)
}

// millis prints microseconds as ms.
func millis(us float64, ok bool) string {
	if !ok {
		return ""
	}
	return number(us/1000) + " ms"
}

// limits says what the results say nothing about.
func (p *page) limits() error {
	cores, longest := 0, time.Duration(0)
	few := 0
	for i := range p.rs {
		r := &p.rs[i]
		cores, longest = max(cores, r.Machine.Cores), max(longest, r.Settings.Duration)
		for j := range r.Runs {
			longest = max(longest, time.Duration(r.Runs[j].Seconds*float64(time.Second)))
		}
		if len(r.Runs) < leastRuns {
			few++
		}
	}
	p.line("## What is not measured")
	p.line("")
	p.line("- More than %d cores, other machines than those above, and networks between machines.", cores)
	p.line("- What shows after more than %v: growth of memory and files, compaction, the age of caches.", longest.Round(time.Second))
	p.line("- Closed loads have no latency, and open ones no highest rate: neither says anything of the other.")
	p.line("- Other programs are measured as their scenarios say. Whoever knows one better may get more out of it.")
	p.line("- A difference of a few percent, or less than the runs of one scenario differ among themselves, is none.")
	if few > 0 {
		p.line("- Whether it was chance, where there are fewer than %d runs: in %d of the %d scenarios.", leastRuns, few, len(p.rs))
	}
	p.line("")
	return nil
}

// repeat says how.
func (p *page) repeat() error {
	p.line("## How to repeat it")
	p.line("")
	p.line("On a machine that does nothing else; [Measuring](benchmarking.md) says what the commands do. Commands as they were given, or, where a file does not say it, the settings:")
	p.line("")
	p.line("```sh")
	var said []string
	for i := range p.rs {
		r := &p.rs[i]
		c := r.Command
		if c == "" {
			c = fmt.Sprintf("# %s: %d runs of %v behind %v", r.Scenario, len(r.Runs), r.Settings.Duration, r.Settings.WarmUp)
		}
		if !slices.Contains(said, c) {
			said = append(said, c)
			p.line("%s", c)
		}
	}
	p.line("```")
	return nil
}
