// Command iot runs the IoT data path of package iot, simulates its devices and checks its results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/millrace-stream/millrace/topologies/iot"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal stops cleanly; then the default comes back, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], environment{environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}))
}

// environment is what a command sees of the world.
type environment struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// command is one subcommand.
type command struct {
	name, summary, help string
	// keys are settings with a flag of their own: flag name to key.
	keys [][2]string
	// args are the names of its arguments that are no flags.
	args []string
	// quiet commands log warnings only, unless -v is given.
	quiet bool
	// run adds flags that are no settings and returns what runs when all are read.
	run func(fs *flag.FlagSet) func(ctx context.Context, c *call) error
}

// call is one run of a command.
type call struct {
	environment
	args []string
	cfg  iot.Config
	log  *slog.Logger
}

func commands() []command {
	return []command{
		demoCommand(), simulateCommand(), allCommand(), ingestCommand(), dataCommand(), checkCommand(), tablesCommand(),
		rulesCommand(), graphCommand(), configCommand(),
	}
}

// errUsage marks errors of the command line.
var errUsage = errors.New("usage")

// errDiffers says that the check found differences; they are printed already.
var errDiffers = errors.New("differs")

func run(ctx context.Context, args []string, env environment) int {
	if len(args) == 0 {
		usage(env.stderr)
		return exitUsage
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		if len(args) == 2 {
			name, args = args[1], []string{args[1], "-h"}
		} else {
			usage(env.stdout)
			return exitOK
		}
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.execute(ctx, args[1:], env)
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return exitOK
		case errors.Is(err, errDiffers):
			return exitFailed
		case errors.Is(err, errUsage):
			fmt.Fprintf(env.stderr, "iot %s: %s\n", name, strings.TrimPrefix(err.Error(), "usage: "))
			return exitUsage
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(env.stderr, "iot %s: %s\n", name, line)
		}
		return exitFailed
	}
	fmt.Fprintf(env.stderr, "iot: no command %q; there are %s\n", name, strings.Join(names(), ", "))
	return exitUsage
}

func names() []string {
	var all []string
	for _, c := range commands() {
		all = append(all, c.name)
	}
	return all
}

func usage(w io.Writer) {
	fmt.Fprint(w, "iot runs the IoT data path: devices -> MQTT -> [RocketMQ ->] windows per device and minute -> ClickHouse.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "\nSettings come from -config FILE (YAML), from environment variables %s…, and from flags; `iot config` lists them all.\n`iot help COMMAND` tells more.\n", iot.EnvPrefix)
}

func (c command) execute(ctx context.Context, args []string, env environment) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var set []iot.Flag
	file := fs.String("config", "", "YAML `FILE` with settings")
	verbose := fs.Bool("v", false, "log more")
	fs.Func("set", "a setting, `KEY=VALUE`, such as time.window=1m; may be repeated", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("write KEY=VALUE")
		}
		set = append(set, iot.Flag{Key: key, Value: value, Place: "flag -set"})
		return nil
	})
	for _, k := range c.keys {
		fs.Func(k[0], "sets "+k[1]+" to `VALUE`", func(s string) error {
			set = append(set, iot.Flag{Key: k[1], Value: s, Place: "flag -" + k[0]})
			return nil
		})
	}
	do := c.run(fs)
	given, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(env.stdout, "iot %s: %s\n\n%s\n\nFlags:\n", c.name, c.summary, strings.TrimSpace(c.help))
		fs.SetOutput(env.stdout)
		fs.PrintDefaults()
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w; see iot help %s", errUsage, err, c.name)
	}
	switch want := len(c.args); {
	case len(given) > want:
		return fmt.Errorf("%w: unexpected argument %q; see iot help %s", errUsage, given[want], c.name)
	case len(given) < want:
		return fmt.Errorf("%w: %s is missing: iot %s %s; see iot help %s", errUsage, c.args[len(given)], c.name, strings.Join(c.args, " "), c.name)
	}
	cfg, err := iot.LoadConfig(*file, env.environ, set...)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	switch {
	case *verbose:
		level = slog.LevelDebug
	case c.quiet:
		level = slog.LevelWarn
	}
	log := slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: level}))
	return do(ctx, &call{environment: env, args: given, cfg: cfg, log: log})
}

// parse reads flags and what stands between them.
func parse(fs *flag.FlagSet, args []string) (given []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if args = fs.Args(); len(args) == 0 {
			return given, nil
		}
		given, args = append(given, args[0]), args[1:]
	}
}
