package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/millrace-stream/millrace/topologies/iot"
)

func rulesCommand() command {
	return command{
		name:    "rules",
		summary: "check a file of alarm rules, and try it on recorded readings",
		args:    []string{"check", "FILE"},
		help: `
iot rules check FILE [-sample FILE.jsonl]

Says all that is wrong with the rules, each with line, column and cure, and exits with 1. With -sample the rules are tried on recorded
messages, one reading as JSON per line in the order in which they came, and a line is printed for each alarm that would have been raised,
updated or cleared: when, which, whose, how severe, and its message. Time goes as far as the sample: what would be raised later is not.
mosquitto_sub -t 'devices/#' > FILE.jsonl records a sample. Nothing is connected.`,
		keys: [][2]string{{"out-of-orderness", "time.out_of_orderness"}},
		run: func(fs *flag.FlagSet) func(context.Context, *call) error {
			sample := fs.String("sample", "", "`FILE.jsonl` with recorded messages; - for standard input")
			return func(_ context.Context, c *call) error { return checkRules(c, *sample) }
		},
	}
}

func checkRules(c *call, sample string) (err error) {
	if verb := c.args[0]; verb != "check" {
		return fmt.Errorf("%w: no iot rules %s, there is iot rules check FILE", errUsage, verb)
	}
	var in io.Reader
	switch sample {
	case "":
	case "-":
		in = c.stdin
	default:
		f, err := os.Open(sample)
		if err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		defer closing(&err, f)
		in = f
	}
	report, err := iot.CheckRules(c.args[1], in, c.cfg.Time)
	if err != nil {
		return err
	}
	if in == nil {
		_, err = fmt.Fprintf(c.stdout, "%d rules, nothing wrong with them\n", report.Rules)
		return err
	}
	_, err = fmt.Fprint(c.stdout, report.String())
	return err
}
