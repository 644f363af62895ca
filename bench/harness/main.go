package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const usageText = `flowbench measures topologies.

  flowbench list                       the scenarios
  flowbench run SCENARIO... [flags]    measures some, families, or all; runs of several take turns
  flowbench search SCENARIO [flags]    finds the highest rate at which latency stays bounded
  flowbench compare BEFORE AFTER       compares two folders of results, or two files
  flowbench report DIR [flags]         makes a page with tables and charts of a folder of results

flowbench run -h tells the flags.
`

// Main is the command: flowbench's, and yours with your own scenarios.
//
//	func main() { os.Exit(harness.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, mine...)) }
func Main(ctx context.Context, args []string, out, errOut io.Writer, all ...Scenario) int {
	err := command(ctx, args, out, errOut, all)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(errOut, "flowbench:", err)
		return 1
	}
	return 0
}

func command(ctx context.Context, args []string, out, errOut io.Writer, all []Scenario) error {
	if len(args) == 0 {
		fmt.Fprint(out, usageText)
		return nil
	}
	given := strings.Join(append([]string{filepath.Base(os.Args[0])}, args...), " ")
	name, args := args[0], args[1:]
	switch name {
	case "list":
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, s := range all {
			fmt.Fprintf(w, "%s\t%s\n", s.Name(), s.About())
		}
		return w.Flush()
	case "run":
		return runCommand(ctx, args, out, errOut, all, given)
	case "search":
		return searchCommand(ctx, args, out, errOut, all, given)
	case "compare":
		return compareCommand(args, out)
	case "report":
		return reportCommand(args, out, errOut)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(out, usageText)
		return nil
	}
	return fmt.Errorf("there is no command %q: list, run, search, compare, report", name)
}

func settings(f *flag.FlagSet, set *Settings) {
	f.Float64Var(&set.Rate, "rate", 0, "events a second that are offered; 0 offers them as fast as they are taken")
	f.DurationVar(&set.WarmUp, "warm-up", time.Second, "how long events flow before anything is measured")
	f.DurationVar(&set.Duration, "duration", 5*time.Second, "how long is measured")
	f.Int64Var(&set.Events, "events", 0, "end each run after so many events instead; 0 does not")
	f.IntVar(&set.Runs, "runs", 1, "how often; comparing takes at least 4")
}

// some are one word or more.
const some = -1

// parse takes flags before and behind the words.
func parse(f *flag.FlagSet, args []string, words int, what string) ([]string, error) {
	var given []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) == 0 {
			break
		}
		given, args = append(given, args[0]), args[1:]
	}
	if len(given) != words && (words != some || len(given) == 0) {
		return nil, fmt.Errorf("%s takes %s", f.Name(), what)
	}
	return given, nil
}

func runCommand(ctx context.Context, args []string, out, errOut io.Writer, all []Scenario, given string) error {
	f := flag.NewFlagSet("flowbench run", flag.ContinueOnError)
	f.SetOutput(errOut)
	var set Settings
	settings(f, &set)
	dir := f.String("out", "", "folder for the results, one JSON file per scenario; empty prints only")
	quiet := f.Bool("quiet", false, "no progress")
	f.BoolVar(&set.Nodes, "nodes", false, "take a profile of each run, to tell which kinds of nodes the processor time went to")
	words, err := parse(f, args, some, "names of scenarios or families, or all: see flowbench list")
	if err != nil {
		return err
	}
	var chosen []Scenario
	for _, word := range words {
		found, err := Find(all, word)
		if err != nil {
			return err
		}
		for _, s := range found {
			if !slices.ContainsFunc(chosen, func(c Scenario) bool { return c.Name() == s.Name() }) {
				chosen = append(chosen, s)
			}
		}
	}
	progress := func(t string) { fmt.Fprintln(errOut, t) }
	if *quiet {
		progress = nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var told []string
	fmt.Fprintln(w, "scenario\tevents/s\tCPU us/event\tallocs/event\tp50\tp99\tlost\trepeats")
	results, err := MeasureInTurns(ctx, chosen, set, progress)
	if err != nil {
		return err
	}
	for _, r := range results {
		for _, x := range r.Runs {
			p50, p99 := "", ""
			if x.Latency != nil {
				p50, p99 = (time.Duration(x.Latency.P50) * time.Microsecond).String(), (time.Duration(x.Latency.P99) * time.Microsecond).String()
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", r.Scenario, number(x.PerSecond), number(x.CPU), number(x.Allocs), p50, p99, x.Lost, x.Repeats)
		}
		if *dir != "" {
			r.Command = given
			if err := Write(*dir, r); err != nil {
				return err
			}
		}
		if set.Nodes {
			told = append(told, r.Scenario+": "+shares(&r))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range told {
		fmt.Fprintln(out, t)
	}
	return nil
}

func searchCommand(ctx context.Context, args []string, out, errOut io.Writer, all []Scenario, given string) error {
	f := flag.NewFlagSet("flowbench search", flag.ContinueOnError)
	f.SetOutput(errOut)
	var set Settings
	settings(f, &set)
	bound := f.Duration("bound", 2*time.Second, "what 99 % of the events must stay below")
	dir := f.String("out", "", "folder for the results, one JSON file per scenario; empty prints only")
	words, err := parse(f, args, 1, "the name of a scenario, a family, or all: see flowbench list")
	if err != nil {
		return err
	}
	chosen, err := Find(all, words[0])
	if err != nil {
		return err
	}
	for _, s := range chosen {
		found, err := Search(ctx, s, set, *bound, func(t string) { fmt.Fprintln(errOut, t) })
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s sustains %s events/s (p99 within %v, %d probes)\n", s.Name(), number(found.Rate), *bound, len(found.Probes))
		if *dir != "" {
			r := found.result(s, set, *bound)
			r.Command = given
			if err := Write(*dir, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func compareCommand(args []string, out io.Writer) error {
	f := flag.NewFlagSet("flowbench compare", flag.ContinueOnError)
	words, err := parse(f, args, 2, "two folders of results, or two files")
	if err != nil {
		return err
	}
	before, err := Read(words[0])
	if err != nil {
		return err
	}
	after, err := Read(words[1])
	if err != nil {
		return err
	}
	ds, err := Compare(before, after)
	if err != nil {
		return err
	}
	fmt.Fprint(out, Table(ds))
	if a, b := before[0].Machine, after[0].Machine; a.CPU != b.CPU || a.Procs != b.Procs || a.Go != b.Go {
		fmt.Fprintf(out, "\nThey were measured on different machines (%s, %d procs, %s; %s, %d procs, %s): compare nothing but allocations.\n", a.CPU, a.Procs, a.Go, b.CPU, b.Procs, b.Go)
	}
	return nil
}

func reportCommand(args []string, out, errOut io.Writer) error {
	f := flag.NewFlagSet("flowbench report", flag.ContinueOnError)
	f.SetOutput(errOut)
	page := f.String("o", "", "file of the page; empty prints it")
	charts := f.String("charts", "", "folder for the charts; empty is the folder of the results")
	words, err := parse(f, args, 1, "a folder of results")
	if err != nil {
		return err
	}
	rs, err := Read(words[0])
	if err != nil {
		return err
	}
	c := Charts{Dir: *charts}
	if c.Dir == "" {
		c.Dir = words[0]
	}
	if *page != "" {
		if c.Link, err = filepath.Rel(filepath.Dir(*page), c.Dir); err != nil {
			return fmt.Errorf("the page and the charts must lie so that one can link the other: %w", err)
		}
	}
	text, err := Report(rs, c)
	if err != nil {
		return err
	}
	if *page == "" {
		_, err = io.WriteString(out, text)
		return err
	}
	return os.WriteFile(*page, []byte(text), 0o644)
}
