package harness

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Charts says where a report puts its charts.
type Charts struct {
	// Dir is the folder. Link is how the page reaches it; empty where both lie in one folder.
	Dir, Link string
}

// Report renders results as a page of Markdown, with charts beside it as SVG and PNG. Every number in it is of a file of the folder.
// Scenarios are grouped by their family. The reference jobs and the queries of Nexmark stand beside what other programs made of them:
// floor/NAME, peers/NAME/PROGRAM, PROGRAM/.../NAME.
func Report(rs []Result, charts Charts) (string, error) {
	p := &page{charts: charts, rs: slices.Clone(rs)}
	slices.SortStableFunc(p.rs, func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.Scenario, b.Scenario), cmp.Compare(a.Settings.Rate, b.Settings.Rate))
	})
	p.line("# Benchmarks")
	p.line("")
	p.line("Made by `flowbench report` out of files of results; there is no figure without one. Figures are medians of the runs, and behind them,")
	p.line("where there are several, the least and the greatest. Ratios are of medians that were measured on the same machine. CPU is processor time of")
	p.line("the whole process per event: what makes the events is part of it, and of the loop by hand.")
	p.line("")
	p.where()
	for _, section := range []func() error{p.comparisons, p.families, p.latencies, p.sustained, p.checkpoints, p.nodes, p.others, p.limits, p.repeat} {
		if err := section(); err != nil {
			return "", err
		}
	}
	return p.b.String(), nil
}

// page is a report that is being written.
type page struct {
	b      strings.Builder
	charts Charts
	rs     []Result
}

func (p *page) line(format string, args ...any) {
	if len(args) == 0 {
		p.b.WriteString(format + "\n")
		return
	}
	fmt.Fprintf(&p.b, format+"\n", args...)
}

func (p *page) table(columns ...string) {
	p.line("| " + strings.Join(columns, " | ") + " |")
	p.line("|" + strings.Repeat("---|", len(columns)))
}

func (p *page) row(cells ...string) { p.line("| " + strings.Join(cells, " | ") + " |") }

// picture links a chart that was drawn.
func (p *page) picture(name, title string, drawn bool, err error) error {
	if err == nil && drawn {
		p.line("![%s](%s)", title, filepath.ToSlash(filepath.Join(p.charts.Link, name+".svg")))
		p.line("")
	}
	return err
}

// where says on what it was measured.
func (p *page) where() {
	p.line("## Machine")
	p.line("")
	p.table("processor", "cores", "GOMAXPROCS", "memory", "system", "Go", "commit", "measured", "load average before", "scenarios")
	type group struct {
		m           Machine
		first, last time.Time
		low, high   float64
		n           int
	}
	var groups []*group
	for i := range p.rs {
		r := &p.rs[i]
		m := r.Machine
		m.Load = 0
		at := slices.IndexFunc(groups, func(g *group) bool { return g.m == m })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &group{m: m, first: r.At, last: r.At, low: r.Machine.Load, high: r.Machine.Load})
		}
		g := groups[at]
		g.n++
		if r.At.Before(g.first) {
			g.first = r.At
		}
		if r.At.After(g.last) {
			g.last = r.At
		}
		g.low, g.high = min(g.low, r.Machine.Load), max(g.high, r.Machine.Load)
	}
	for _, g := range groups {
		day := g.first.Format(time.DateOnly)
		if last := g.last.Format(time.DateOnly); last != day {
			day += " to " + last
		}
		commit, changed, _ := strings.Cut(g.m.Commit, " ")
		p.row(g.m.CPU, fmt.Sprint(g.m.Cores), fmt.Sprint(g.m.Procs), fmt.Sprintf("%d GiB", (g.m.Memory+1<<29)>>30), g.m.OS, g.m.Go,
			strings.TrimSpace(fmt.Sprintf("%.12s %s", commit, changed)), day, fmt.Sprintf("%.1f to %.1f", g.low, g.high), fmt.Sprint(g.n))
	}
	p.line("")
}

// families are the tables of all closed loads that are not compared with other programs.
func (p *page) families() error {
	names := p.familyNames()
	for _, name := range names {
		var rs []*Result
		for i := range p.rs {
			if r := &p.rs[i]; family(r) == name && r.Settings.Rate == 0 && r.Sustained == nil {
				rs = append(rs, r)
			}
		}
		if len(rs) == 0 {
			continue
		}
		p.line("## %s", name)
		p.line("")
		p.table("scenario", "what", "runs", "events/s", "CPU us/event", "allocs/event", "bytes/event", "GC", "peak RSS", "lost", "repeats")
		var names []string
		cpu := series{name: "CPU us/event", at: map[string]float64{}}
		for _, r := range rs {
			lost, repeats := losses(r)
			p.row(r.Scenario, r.About, fmt.Sprint(len(r.Runs)), spread(r, perSecond), spread(r, cpuTime), middle(r, allocs), middle(r, bytesEach), share(r), memory(r), lost, repeats)
			if v, ok := median(r, cpuTime); ok {
				names = append(names, r.Scenario)
				cpu.at[r.Scenario] = v
			}
		}
		p.line("")
		title := "Processor time per event: " + name
		drawn, err := bars(filepath.Join(p.charts.Dir, name), title, "us", names, cpu)
		if err := p.picture(name, title, drawn, err); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) familyNames() (names []string) {
	for i := range p.rs {
		if f := family(&p.rs[i]); f != "" && !slices.Contains(names, f) {
			names = append(names, f)
		}
	}
	return names
}

// latencies is the table of open loads.
func (p *page) latencies() error {
	ps := []series{{name: "p50", at: map[string]float64{}}, {name: "p99", at: map[string]float64{}}, {name: "p99.9", at: map[string]float64{}}}
	var names []string
	for i := range p.rs {
		r := &p.rs[i]
		if r.Settings.Rate == 0 || r.Sustained != nil {
			continue
		}
		if names == nil {
			p.line("## Latency")
			p.line("")
			p.line("From the moment that an event was due to that at which what came of it was durable, at an offered rate that waits for nothing.")
			p.line("")
			p.table("scenario", "offered/s", "runs", "taken/s", "CPU us/event", "p50", "p99", "p99.9", "max", "lost", "repeats")
		}
		lost, repeats := losses(r)
		ms := func(of func(*Latency) int64) string { return millis(median(r, latency(of))) }
		p.row(r.Scenario, number(r.Settings.Rate), fmt.Sprint(len(r.Runs)), middle(r, perSecond), middle(r, cpuTime), ms(p50), ms(p99), ms(p999),
			ms(func(l *Latency) int64 { return l.Max }), lost, repeats)
		label := fmt.Sprintf("%s at %s/s", r.Scenario, number(r.Settings.Rate))
		names = append(names, label)
		for j, of := range []func(*Latency) int64{p50, p99, p999} {
			if v, ok := median(r, latency(of)); ok {
				ps[j].at[label] = v / 1000
			}
		}
	}
	if names == nil {
		return nil
	}
	p.line("")
	drawn, err := dots(filepath.Join(p.charts.Dir, "latency"), "Latency", "ms", names, ps)
	return p.picture("latency", "Latency", drawn, err)
}

// sustained is the table of searches.
func (p *page) sustained() error {
	first := true
	for i := range p.rs {
		r := &p.rs[i]
		if r.Sustained == nil {
			continue
		}
		if first {
			first = false
			p.line("## Sustained rate")
			p.line("")
			p.line("The highest offered rate, to within 5 %, at which 99 % of the events were out within the bound and latency did not grow.")
			p.line("")
			p.table("scenario", "bound", "sustained/s", "p99 at it", "probes")
		}
		l := ""
		if len(r.Runs) > 0 {
			l = millis(median(r, latency(p99)))
		}
		p.row(r.Scenario, r.Sustained.Bound.String(), number(r.Sustained.Rate), l, fmt.Sprint(r.Sustained.Probes))
	}
	if !first {
		p.line("")
	}
	return nil
}

// checkpoints is the table of those that have epochs that write.
func (p *page) checkpoints() error {
	first := true
	for i := range p.rs {
		r := &p.rs[i]
		bytes, _ := median(r, func(x *Run) (float64, bool) { return float64(x.Epochs.Bytes), x.Epochs.N > 0 })
		if bytes == 0 {
			continue
		}
		if first {
			first = false
			p.line("## Checkpoints")
			p.line("")
			p.line("Of scenarios that write state. Processing stands still in the pause only; the whole time goes from the trigger to the acks.")
			p.line("")
			p.table("scenario", "epochs per run", "longest pause", "p50 of the whole", "longest", "written per epoch")
		}
		of := func(f func(e Epochs) float64) (float64, bool) {
			return median(r, func(x *Run) (float64, bool) { return f(x.Epochs), x.Epochs.N > 0 })
		}
		n, _ := of(func(e Epochs) float64 { return float64(e.N) })
		p.row(r.Scenario, fmt.Sprintf("%.0f", n), millis(of(func(e Epochs) float64 { return float64(e.LongestPause.Microseconds()) })),
			millis(of(func(e Epochs) float64 { return float64(e.P50) })), millis(of(func(e Epochs) float64 { return float64(e.Longest) })),
			fmt.Sprintf("%s MiB", number(bytes/n/(1<<20))))
	}
	if !first {
		p.line("")
	}
	return nil
}

// nodes is the table of where the processor time goes.
func (p *page) nodes() error {
	first := true
	for i := range p.rs {
		r := &p.rs[i]
		e, _ := compared(r)
		if strings.HasPrefix(e.program, byHand) || len(meanNodes(r)) == 0 { // a loop by hand has no nodes
			continue
		}
		if first {
			first = false
			p.line("## Where the time goes")
			p.line("")
			p.line("Parts of the processor time by kind of node, out of a profile of each run (100 samples a second; a few percent of a short run are chance).")
			p.line("What a node calls is the node's. *keys* finds the state of a record's key, *engine* is what else runs between nodes, *runtime* scheduling.")
			p.line("")
			p.table("scenario", "time by node")
		}
		p.row(r.Scenario, shares(r))
	}
	if !first {
		p.line("")
	}
	return nil
}

// shares are those of at least 1 %.
func shares(r *Result) string {
	var parts []string
	for _, n := range meanNodes(r) {
		if n.Share >= 0.005 {
			parts = append(parts, fmt.Sprintf("%s %.0f %%", n.Node, 100*n.Share))
		}
	}
	return strings.Join(parts, ", ")
}
