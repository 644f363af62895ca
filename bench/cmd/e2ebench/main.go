// Command e2ebench measures whole paths with real servers: see package bench/e2e. It starts the servers that it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/millrace-stream/millrace/bench/e2e"
	"github.com/millrace-stream/millrace/bench/harness"
)

const usage = `e2ebench measures whole paths with real servers, which it starts.

  e2ebench pair mqtt|rocketmq|kafka [flags]   a path against a bare loop over the same client, in turns
  e2ebench pair ekuiper -ekuiper DIR [flags]  a rule as a topology against the same rule in eKuiper, in turns
  e2ebench latency [flags]                    MQTT to ClickHouse at 80 % of the rate that it sustains
  e2ebench durability [flags]                 the main job in process: state in memory, and in files with epochs of 1 s and 100 ms
  e2ebench recovery [flags]                   the time from a start behind a SIGKILL to the first record
  e2ebench ratios DIR                         the ratios of the pairs in a folder of results

flowbench compare and flowbench report read the results.

e2ebench pair -h tells the flags.
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "e2ebench:", err)
		os.Exit(1)
	}
}

type flags struct {
	*flag.FlagSet
	set harness.Settings
	out string
	// profile is where a CPU profile goes to.
	profile string
	note    func(string)
}

func newFlags(name string, errOut io.Writer) *flags {
	f := &flags{FlagSet: flag.NewFlagSet("e2ebench "+name, flag.ContinueOnError), note: func(t string) { fmt.Fprintln(errOut, t) }}
	f.SetOutput(errOut)
	f.IntVar(&f.set.Runs, "runs", 5, "how often")
	f.StringVar(&f.profile, "cpuprofile", "", "file for a CPU profile of this process during the path's last run")
	f.StringVar(&f.out, "out", "", "folder for the results, one JSON file per scenario; empty prints only")
	return f
}

func (f *flags) write(rs ...harness.Result) error {
	if f.out == "" {
		return nil
	}
	return harness.Write(f.out, rs...)
}

// profiled is a path whose last run leaves a CPU profile of this process.
type profiled struct {
	e2e.Bench
	file string
}

func (f *flags) profiled(b e2e.Bench) e2e.Bench {
	if f.profile == "" {
		return b
	}
	return profiled{b, f.profile}
}

// Run runs it under the profiler.
func (p profiled) Run(ctx context.Context, l *harness.Load, m *harness.Meter) (err error) {
	file, err := os.Create(p.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return p.Bench.Run(ctx, l, m)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(out, usage)
		return nil
	}
	switch name, args := args[0], args[1:]; name {
	case "pair":
		return pair(ctx, args, out, errOut)
	case "latency":
		return latency(ctx, args, out, errOut)
	case "durability":
		return durability(ctx, args, out, errOut)
	case "recovery":
		return recovery(ctx, args, out, errOut)
	case "ratios":
		if len(args) != 1 {
			return errors.New("ratios takes a folder of results")
		}
		all, err := e2e.Ratios(args[0])
		for _, r := range all {
			fmt.Fprintln(out, r)
		}
		return err
	case child:
		return recoveryChild(ctx, args, out)
	}
	return fmt.Errorf("there is no command %q:\n%s", args[0], usage)
}

func pair(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	if len(args) == 0 {
		return errors.New("pair takes mqtt, rocketmq, kafka or ekuiper")
	}
	f := newFlags("pair", errOut)
	f.Int64Var(&f.set.Events, "events", 0, "records of a run; 0 means 200,000 for mqtt, 1,000,000 for ekuiper and 3,000,000 for the others")
	window := f.Int("window", 0, "mqtt: messages that the broker leaves unacked, by a broker of its own; 0 takes the shared one")
	ekuiper := f.String("ekuiper", "", "ekuiper: the folder that has its program kuiperd and its folder etc, as bench/peers/ekuiper/build makes it")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "ekuiper" && *ekuiper == "" {
		return errors.New("pair ekuiper needs -ekuiper DIR: bench/peers/ekuiper/build DIR makes it")
	}
	servers, down, err := up(ctx, args[0], *window, f.note)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	events := int64(3_000_000)
	var bare, path e2e.Bench
	switch args[0] {
	case "mqtt":
		events = 200_000
		bare, path = e2e.MQTT(servers)
	case "rocketmq":
		bare, path = e2e.RocketMQ(servers)
	case "kafka":
		bare, path = e2e.Kafka(servers)
	case "ekuiper":
		events = 1_000_000
		bare, path = e2e.Rule(servers, *ekuiper)
	default:
		return fmt.Errorf("there is no pair %q: mqtt, rocketmq, kafka, ekuiper", args[0])
	}
	if f.set.Events == 0 {
		f.set.Events = events
	}
	defer func() {
		err = errors.Join(err, bare.Close(context.WithoutCancel(ctx)), path.Close(context.WithoutCancel(ctx)))
	}()
	r, err := e2e.Pair(ctx, bare, f.profiled(path), f.set, f.note)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, r)
	return f.write(r.Bare, r.Path)
}

func latency(ctx context.Context, args []string, out, errOut io.Writer) (err error) {
	f := newFlags("latency", errOut)
	f.DurationVar(&f.set.WarmUp, "warm-up", 2*time.Second, "how long events flow before anything is measured")
	f.DurationVar(&f.set.Duration, "duration", 10*time.Second, "how long is measured")
	bound := f.Duration("bound", 2*time.Second, "what 99 % of the events must stay below")
	window := f.Int("window", 0, "messages that the broker leaves unacked, by a broker of its own; 0 takes the shared one")
	if err := f.Parse(args); err != nil {
		return err
	}
	servers, down, err := up(ctx, "mqtt", *window, f.note)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down()) }()
	_, path := e2e.MQTT(servers)
	sustains, r, err := e2e.Latency(ctx, path, f.set, *bound, f.note)
	if err != nil {
		return err
	}
	for _, x := range r.Runs {
		fmt.Fprintf(out, "%s sustains %.0f events/s; at %.0f: p50 %v, p99 %v, p99.9 %v, max %v\n", path.Name(), sustains, r.Settings.Rate,
			us(x.Latency.P50), us(x.Latency.P99), us(x.Latency.P999), us(x.Latency.Max))
	}
	return f.write(r)
}

func us(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
