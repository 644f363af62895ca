package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
)

// Measure is harness.Measure with what stands before and behind each run. A run that did not pass its check has no figures.
func Measure(ctx context.Context, b Bench, set harness.Settings, progress func(string)) (all harness.Result, err error) {
	runs := max(set.Runs, 1)
	set.Runs = 1
	for i := range runs {
		one, err := measureOnce(ctx, b, set, progress)
		if err != nil {
			return all, fmt.Errorf("run %d: %w", i+1, err)
		}
		add(&all, one)
	}
	return all, nil
}

func measureOnce(ctx context.Context, b Bench, set harness.Settings, progress func(string)) (_ harness.Result, err error) {
	defer func() { err = errors.Join(err, b.Drop(context.WithoutCancel(ctx))) }()
	if err := b.Prepare(ctx, set); err != nil {
		return harness.Result{}, fmt.Errorf("prepare %s: %w", b.Name(), err)
	}
	r, err := harness.Measure(ctx, b, set, progress)
	if err != nil {
		return r, err
	}
	if err := b.Check(ctx); err != nil {
		return r, fmt.Errorf("%s: %w", b.Name(), err)
	}
	if run := r.Runs[0]; run.Lost != 0 || run.Repeats != 0 {
		return r, fmt.Errorf("%s: %d events lost, %d repeated", b.Name(), run.Lost, run.Repeats)
	}
	return r, nil
}

// add adds a result's runs to those of the same scenario.
func add(to *harness.Result, r harness.Result) {
	if to.Scenario == "" {
		*to = r
		return
	}
	to.Runs = append(to.Runs, r.Runs...)
	to.Settings.Runs = len(to.Runs)
}

// Ratio is a path against its bare loop.
type Ratio struct {
	Bare, Path harness.Result
	// Each is the path's rate over that of the bare loops around it, per turn; Median is their median.
	Each   []float64
	Median float64
	// CPU is the path's processor time per event over that of the bare loop, medians: the servers' is in neither.
	CPU float64
}

// Pair measures a bare loop and a path in turns, so that both see the same machine: bare, path, bare, path ... bare.
func Pair(ctx context.Context, bare, path Bench, set harness.Settings, progress func(string)) (Ratio, error) {
	if progress == nil {
		progress = func(string) {}
	}
	var r Ratio
	turns := max(set.Runs, 1)
	set.Runs = 1
	for i := range 2*turns + 1 {
		b, to := bare, &r.Bare
		if i%2 == 1 {
			b, to = path, &r.Path
		}
		one, err := measureOnce(ctx, b, set, nil)
		if err != nil {
			return r, err
		}
		add(to, one)
		progress(line(b, one.Runs[0]))
	}
	return RatioOf(r.Bare, r.Path)
}

// RatioOf is the ratio of two results that Pair has measured.
func RatioOf(bare, path harness.Result) (Ratio, error) {
	r := Ratio{Bare: bare, Path: path}
	if len(path.Runs) == 0 || len(bare.Runs) != len(path.Runs)+1 {
		return r, fmt.Errorf("%s has %d runs and %s has %d: they were not measured in turns, bare loop first and last", bare.Scenario, len(bare.Runs), path.Scenario, len(path.Runs))
	}
	for i, x := range path.Runs {
		r.Each = append(r.Each, x.PerSecond/((bare.Runs[i].PerSecond+bare.Runs[i+1].PerSecond)/2))
	}
	cpu := func(r harness.Run) float64 { return r.CPU }
	r.Median, r.CPU = median(r.Each, func(x float64) float64 { return x }), Median(path, cpu)/Median(bare, cpu)
	return r, nil
}

// Ratios are those of all pairs in a folder of results.
func Ratios(dir string) ([]Ratio, error) {
	all, err := harness.Read(dir)
	if err != nil {
		return nil, err
	}
	of := map[string]harness.Result{}
	for _, r := range all {
		of[r.Scenario] = r
	}
	var found []Ratio
	for _, bare := range all {
		pair, path := strings.CutSuffix(bare.Scenario, "-bare")
		if pair += "-clickhouse"; !path {
			pair, path = strings.CutSuffix(bare.Scenario, "-ekuiper")
		}
		if path {
			r, err := RatioOf(bare, of[pair])
			if err != nil {
				return nil, err
			}
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no pair: make one with e2ebench pair mqtt -out %s", dir, dir)
	}
	return found, nil
}

func line(b Bench, r harness.Run) string {
	return fmt.Sprintf("%s %.0f events/s, %.3f us of CPU per event, %d epochs", b.Name(), r.PerSecond, r.CPU, r.Epochs.N)
}

// Median is that of a value of a result's runs.
func Median(r harness.Result, value func(harness.Run) float64) float64 { return median(r.Runs, value) }

func median[T any](of []T, value func(T) float64) float64 {
	v := make([]float64, len(of))
	for i := range of {
		v[i] = value(of[i])
	}
	slices.SortFunc(v, cmp.Compare[float64])
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// String is the ratio in words.
func (r Ratio) String() string {
	rate := func(r harness.Run) float64 { return r.PerSecond }
	return fmt.Sprintf("%s %.0f events/s, %s %.0f events/s: %.2fx, turn by turn %.2f; processor time of this process per event %.1fx",
		r.Path.Scenario, Median(r.Path, rate), r.Bare.Scenario, Median(r.Bare, rate), r.Median, r.Each, r.CPU)
}

// Latency searches for the highest rate that a path sustains with its p99 within bound, and measures its latency at 80 % of it.
func Latency(ctx context.Context, b Bench, set harness.Settings, bound time.Duration, progress func(string)) (sustains float64, at80 harness.Result, err error) {
	found, err := harness.Search(ctx, checked{b}, set, bound, progress)
	if err != nil {
		return 0, at80, err
	}
	if found.Rate == 0 {
		return 0, at80, errors.New("no rate was sustained")
	}
	set.Rate = 0.8 * found.Rate
	at80, err = Measure(ctx, b, set, progress)
	at80.Scenario += "-latency"
	at80.About += fmt.Sprintf(", at 80 %% of the %.0f events/s that it sustains with its p99 within %v", found.Rate, bound)
	return found.Rate, at80, err
}

// checked makes a plain scenario of a Bench: what stands before and behind is measured too.
type checked struct{ Bench }

func (c checked) Run(ctx context.Context, l *harness.Load, m *harness.Meter) (err error) {
	defer func() { err = errors.Join(err, c.Drop(context.WithoutCancel(ctx))) }()
	if err := c.Prepare(ctx, harness.Settings{}); err != nil {
		return err
	}
	if err := c.Bench.Run(ctx, l, m); err != nil {
		return err
	}
	return c.Check(ctx)
}
