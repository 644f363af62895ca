package harness

import (
	"cmp"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Report renders results as Markdown tables, with charts beside it as SVG and PNG. Every number in it is of a file of the folder.
func Report(rs []Result, dir string) (string, error) {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b Result) int { return cmp.Compare(a.Scenario, b.Scenario) })
	var b strings.Builder
	machines(&b, rs)
	b.WriteString("| scenario | offered | runs | events/s | CPU us/event | allocs/event | GC | p50 | p99 | p99.9 | peak RSS | lost | repeats |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range rs {
		row(&b, &rs[i])
	}
	b.WriteString("\n")
	for _, c := range []struct {
		file, title, unit string
		of                func(*Run) (float64, bool)
	}{
		{"cpu", "Processor time per event", "us", func(r *Run) (float64, bool) { return r.CPU, true }},
		{"latency", "Latency, 99th percentile", "ms", func(r *Run) (float64, bool) {
			if r.Latency == nil {
				return 0, false
			}
			return float64(r.Latency.P99) / 1000, true
		}},
	} {
		ok, err := chart(filepath.Join(dir, c.file), c.title, c.unit, rs, c.of)
		if err != nil {
			return "", err
		}
		if ok {
			fmt.Fprintf(&b, "![%s](%s.svg)\n\n", c.title, c.file)
		}
	}
	return b.String(), nil
}

func machines(b *strings.Builder, rs []Result) {
	said := map[string]bool{}
	for i := range rs {
		m := rs[i].Machine
		text := fmt.Sprintf("%s, %d cores (GOMAXPROCS %d), %d GiB, %s, %s, commit %.12s", m.CPU, m.Cores, m.Procs, (m.Memory+1<<29)>>30, m.OS, m.Go, m.Commit)
		if !said[text] {
			said[text] = true
			fmt.Fprintf(b, "Machine: %s. Measured from %s on.\n", text, rs[i].At.Format("2006-01-02"))
		}
	}
	b.WriteString("Values are medians of the runs; the load average before each run stands in the files.\n\n")
}

func row(b *strings.Builder, r *Result) {
	m := func(of func(*Run) (float64, bool)) string {
		v := values(r, quantity{of: of})
		if len(v) == 0 {
			return ""
		}
		slices.Sort(v)
		return number((v[(len(v)-1)/2] + v[len(v)/2]) / 2)
	}
	plain := func(of func(*Run) float64) string {
		return m(func(x *Run) (float64, bool) { return of(x), true })
	}
	offered := "all it takes"
	if r.Settings.Rate > 0 {
		offered = number(r.Settings.Rate) + "/s"
	}
	us := func(of func(*Latency) int64) string {
		v := m(latency(of))
		if v != "" {
			v += " us"
		}
		return v
	}
	var lost, repeats int64
	for i := range r.Runs {
		lost, repeats = lost+r.Runs[i].Lost, repeats+r.Runs[i].Repeats
	}
	fmt.Fprintf(b, "| %s | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s MiB | %d | %d |\n", r.Scenario, offered, len(r.Runs),
		plain(func(x *Run) float64 { return x.PerSecond }), plain(func(x *Run) float64 { return x.CPU }), plain(func(x *Run) float64 { return x.Allocs }),
		plain(func(x *Run) float64 { return 100 * x.GC })+" %", us(func(l *Latency) int64 { return l.P50 }), us(func(l *Latency) int64 { return l.P99 }),
		us(func(l *Latency) int64 { return l.P999 }), plain(func(x *Run) float64 { return float64(x.RSS >> 20) }), lost, repeats)
}

// chart draws a bar per scenario; ok is false where no scenario has the value.
func chart(file, title, unit string, rs []Result, of func(*Run) (float64, bool)) (ok bool, err error) {
	var vs plotter.Values
	var names []string
	for i := range rs {
		v := values(&rs[i], quantity{of: of})
		if len(v) == 0 {
			continue
		}
		slices.Sort(v)
		vs, names = append(vs, v[len(v)/2]), append(names, "  "+rs[i].Scenario)
	}
	if len(vs) == 0 {
		return false, nil
	}
	slices.Reverse(vs) // the first on top
	slices.Reverse(names)
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, unit
	bars, err := plotter.NewBarChart(vs, vg.Points(12))
	if err != nil {
		return false, err
	}
	bars.Horizontal, bars.Color = true, color.RGBA{R: 0x3b, G: 0x6e, B: 0xa5, A: 0xff}
	bars.LineStyle.Width = 0
	p.Add(bars)
	p.NominalY(names...)
	p.X.Min, p.X.Max = 0, slices.Max(vs)*1.08
	p.Y.Padding, p.X.Padding = vg.Points(6), vg.Points(6)
	height := vg.Length(len(vs))*vg.Points(20) + vg.Points(80)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return false, err
	}
	for _, ext := range []string{".svg", ".png"} {
		if err := p.Save(18*vg.Centimeter, height, file+ext); err != nil {
			return false, err
		}
	}
	return true, nil
}
