package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/millrace-stream/millrace/bench/e2e"
	"github.com/millrace-stream/millrace/bench/harness"
)

// child is the command by which the process that is killed is started.
const child = "recovery-child"

func durability(ctx context.Context, args []string, out, errOut io.Writer) error {
	f := newFlags("durability", errOut)
	f.Int64Var(&f.set.Events, "events", 2_000_000, "readings of a run")
	if err := f.Parse(args); err != nil {
		return err
	}
	rs, err := e2e.Turns(ctx, e2e.Durability(), f.set, f.note)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tevents/s\tCPU us/event\tof off")
	cpu := func(r harness.Run) float64 { return r.CPU }
	for i := range rs {
		fmt.Fprintf(w, "%s\t%.0f\t%.3f\t%.2fx\n", rs[i].Scenario, e2e.Median(rs[i], func(r harness.Run) float64 { return r.PerSecond }), e2e.Median(rs[i], cpu),
			e2e.Median(rs[i], cpu)/e2e.Median(rs[0], cpu))
	}
	return errors.Join(w.Flush(), f.write(rs...))
}

func recovery(ctx context.Context, args []string, out, errOut io.Writer) error {
	f := newFlags("recovery", errOut)
	keys := f.Int64("keys", 1_000_000, "entries of the state")
	if err := f.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r := e2e.Recovery{Keys: *keys, Note: f.note, Command: func(ctx context.Context, dir string, keys int64) *exec.Cmd {
		return exec.CommandContext(ctx, self, child, dir, strconv.FormatInt(keys, 10))
	}}
	var all []e2e.Recovered
	for range max(f.set.Runs, 1) {
		got, err := r.Run(ctx)
		if err != nil {
			return err
		}
		all = append(all, got)
		fmt.Fprintf(out, "%d entries, %.1f MiB of files: restored after %v, first record after %v; all values right\n",
			*keys, float64(got.StateBytes)/(1<<20), got.Restored.Round(time.Millisecond), got.First.Round(time.Millisecond))
	}
	return f.write(r.Results(all)...)
}

func recoveryChild(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New(child + " is for e2ebench recovery only")
	}
	keys, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	return e2e.Child(ctx, args[0], keys, out)
}
