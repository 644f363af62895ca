package flowtest

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/millrace-stream/millrace/flow"
)

// updateFlag is the test binary's own flag -update, if it has one.
func updateFlag() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// scriptTest is a script with the ways in which it is run.
type scriptTest struct {
	path, text string
	setup      func(*Script)
	opts       []flow.TopologyOption
	update     bool
}

// scriptMode is a way to run a script.
type scriptMode struct {
	name    string
	tasks   int
	crashes bool // an epoch and a crash behind each line
	anyhow  bool // the order within an expect is free
}

var scriptModes = []scriptMode{
	{name: "as written", tasks: 1},
	{name: "with an epoch and a crash behind each line", tasks: 1, crashes: true},
	{name: "with four tasks", tasks: 4, anyhow: true},
}

// run runs the script in all modes and returns its text, rewritten if that is wanted.
func (s *scriptTest) run(t testing.TB) (string, error) {
	text := s.text
	for i, m := range scriptModes {
		f, err := parseScript(s.path, text)
		if err != nil {
			return "", err
		}
		r := &scriptRun{script: &Script{file: f, inputs: map[string]scriptInput{}}, mode: m, got: map[int][]string{}}
		err = r.do(t, s)
		switch {
		case err != nil:
		case i == 0 && s.update && r.ran:
			text = f.rewrite(r.got, r.rest)
		default:
			err = errors.Join(r.wrong...)
		}
		if err != nil && i > 0 {
			err = fmt.Errorf("%w\n(the script is right as written; this is a run %s)", err, m.name)
		}
		if err != nil {
			return "", err
		}
	}
	return text, nil
}

// scriptRun is one run of a script.
type scriptRun struct {
	script *Script
	mode   scriptMode
	run    *Run
	// last is the partition whose records may be in work, "" if none are.
	last  string
	idled bool
	ended bool

	got   map[int][]string // what came out, by the line of its expect
	rest  []string         // and behind the last one
	wrong []error
	ran   bool
}

func (r *scriptRun) do(t testing.TB, s *scriptTest) error {
	f := r.script.file
	r.run = New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		r.script.top = flow.New("script", append(append(opts, s.opts...), flow.WithParallelism(r.mode.tasks))...)
		r.script.asked, r.script.named = map[string]bool{}, map[string]bool{}
		s.setup(r.script)
		return r.script.top
	})
	started := r.start()
	if err := r.checkSetup(); err != nil {
		return err
	}
	failed := started
	for i := range f.cmds {
		c := &f.cmds[i]
		if c.word == "fails" {
			return r.fails(c, failed)
		}
		if failed == nil {
			failed = r.command(c)
		}
		if failed != nil && (i+1 == len(f.cmds) || f.cmds[i+1].word != "fails") {
			return fmt.Errorf("%s:%d: %s: %w", f.path, c.line, c.word, failed)
		}
	}
	if failed != nil { // a script without commands
		return fmt.Errorf("%s: %w", f.path, failed)
	}
	return r.finish()
}

// start starts the topology on what was committed.
func (r *scriptRun) start() error {
	if err := r.run.TryRestart(); err != nil {
		return err
	}
	r.run.waits = nil
	for _, in := range r.script.inputs {
		r.run.waits = append(r.run.waits, in.wait)
	}
	return r.run.TrySettle()
}

// checkSetup says what is wrong with setup, or with the script for it.
func (r *scriptRun) checkSetup() error {
	s := r.script
	switch {
	case s.err != nil:
		return s.err
	case len(s.inputs) == 0:
		return fmt.Errorf("%s: setup has no input; make one by flowtest.ScriptInput", s.file.path)
	case len(s.outputs) == 0:
		return fmt.Errorf("%s: setup has no output; name one by flowtest.ScriptOutput", s.file.path)
	}
	for name, a := range s.file.args {
		if !s.asked[name] {
			return s.file.errorf(a.line, fmt.Sprintf("setup does not ask for the argument %q", name), "it asks for "+listed(s.asked))
		}
	}
	for i := range s.file.cmds {
		switch c := &s.file.cmds[i]; c.word {
		case "watermark":
			if c.input == "" {
				continue
			}
			fallthrough
		case "in", "idle":
			_, partitions, err := s.place(c)
			if err != nil {
				return err
			}
			if c.word == "in" && len(partitions) > 1 {
				return s.file.errorf(c.line, "the line does not say to which partition its record goes", "write one of /"+strings.Join(partitions, ", /")+" behind in")
			}
		}
	}
	return nil
}

func listed(set map[string]bool) string {
	if len(set) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

// command does what a line says; an error is the topology's, or one of the line.
func (r *scriptRun) command(c *command) error {
	switch c.word {
	case "in":
		in, partitions, err := r.script.place(c)
		if err != nil {
			return err
		}
		if err := r.turnTo(c.input + "/" + partitions[0]); err != nil {
			return err
		}
		if err := in.feed(partitions[0], c.at, c.text); err != nil {
			return err
		}
	case "watermark":
		if err := r.watermark(c); err != nil {
			return err
		}
	case "idle":
		r.idled = true
		if err := r.idle(c); err != nil {
			return err
		}
	case "clock":
		if err := r.clock(c); err != nil {
			return err
		}
	case "expect":
		if !r.ended {
			if err := r.epoch(); err != nil {
				return err
			}
		}
		r.compare(c)
		return nil
	case "epoch":
		return r.epoch()
	case "crash":
		if err := r.settle(); err != nil {
			return err
		}
		return r.crash()
	case "restart":
		if err := r.settle(); err != nil {
			return err
		}
		if err := r.stop(); err != nil {
			return err
		}
		return r.start()
	case "flush":
		if err := r.settle(); err != nil {
			return err
		}
		r.ended = true
		return r.stop(flow.Flush())
	}
	if !r.mode.crashes || r.idled {
		return nil
	}
	if err := r.epoch(); err != nil {
		return err
	}
	return r.crash()
}

// turnTo settles when records went to another partition before: what is fed to one comes in order, what is fed to several does not.
func (r *scriptRun) turnTo(place string) error {
	if r.last != place && r.last != "" {
		if err := r.settle(); err != nil {
			return err
		}
	}
	r.last = place
	return nil
}

func (r *scriptRun) watermark(c *command) error {
	names := r.script.order
	if c.input != "" || c.partition != "" {
		names = []string{c.input}
	}
	for _, name := range names {
		one := *c
		one.input = name
		in, partitions, err := r.script.place(&one)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			if err := r.turnTo(c.input + "/" + p); err != nil {
				return err
			}
			if err := in.watermark(p, c.at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *scriptRun) idle(c *command) error {
	if err := r.settle(); err != nil {
		return err
	}
	in, partitions, err := r.script.place(c)
	if err != nil {
		return err
	}
	ctx, cancel := r.run.ctx()
	defer cancel()
	for _, p := range partitions {
		if err := in.idle(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *scriptRun) clock(c *command) error {
	if err := r.settle(); err != nil {
		return err
	}
	if c.set {
		r.run.Clock.Set(c.at.Time())
	} else {
		r.run.Clock.Advance(c.move)
	}
	return r.settle()
}

func (r *scriptRun) settle() error {
	r.last = ""
	return r.run.TrySettle()
}

func (r *scriptRun) epoch() error {
	if err := r.settle(); err != nil {
		return err
	}
	ctx, cancel := r.run.ctx()
	defer cancel()
	return r.run.running.Epoch(ctx)
}

func (r *scriptRun) crash() error {
	r.run.Kill()
	return r.start()
}

func (r *scriptRun) stop(opts ...flow.StopOption) error {
	ctx, cancel := r.run.ctx()
	defer cancel()
	if err := r.run.running.Stop(ctx, opts...); err != nil {
		return err
	}
	r.run.end()
	return nil
}

// out is what came out since the last call.
func (r *scriptRun) out() (lines []string) {
	for _, o := range r.script.outputs {
		for _, l := range o.next() {
			if len(r.script.outputs) > 1 {
				l = o.name + ": " + l
			}
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

func (r *scriptRun) compare(c *command) {
	got := r.out()
	r.got[c.line] = got
	want := c.want
	if r.mode.anyhow {
		want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))
	}
	if !slices.Equal(want, got) {
		r.wrong = append(r.wrong, r.script.file.errorf(c.line, "not what is expected",
			"if it is right, rewrite the script by go test with -update (see flowtest.RunScripts)"+sideBySide(want, got)))
	}
}

func sideBySide(want, got []string) string {
	list := func(lines []string) string {
		if len(lines) == 0 {
			return "\n        (nothing)"
		}
		return "\n        " + strings.Join(lines, "\n        ")
	}
	return "\n    expected:" + list(want) + "\n    came out:" + list(got)
}

// fails checks that the topology has failed.
func (r *scriptRun) fails(c *command, err error) error {
	if err == nil {
		err = r.settle()
	}
	if r.run.running != nil {
		r.run.running.Abort()
		r.run.end()
	}
	switch {
	case err == nil:
		return r.script.file.errorf(c.line, "the topology runs", "it should have failed with "+c.text)
	case !strings.Contains(err.Error(), c.text):
		return fmt.Errorf("%s:%d: the topology fails with another error than %q: %w", r.script.file.path, c.line, c.text, err)
	}
	r.ran = true
	return nil
}

// finish looks for what nobody expects, and ends the run.
func (r *scriptRun) finish() error {
	if !r.ended {
		if err := r.epoch(); err != nil {
			return err
		}
	}
	r.rest = r.out()
	if len(r.rest) > 0 {
		r.wrong = append(r.wrong, r.script.file.errorf(len(r.script.file.lines), "more came out than any expect names",
			"add an expect at the end, or let go test write it with -update"+sideBySide(nil, r.rest)))
	}
	r.ran = true
	if r.ended {
		return nil
	}
	return r.stop()
}
