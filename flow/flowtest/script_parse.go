package flowtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// scriptFile is a script that has been read.
type scriptFile struct {
	path  string
	lines []string
	args  map[string]scriptArg
	cmds  []command
}

type scriptArg struct {
	value string
	line  int
}

// command is one line of a script. Lines count from 1.
type command struct {
	line      int
	word      string
	input     string // "" where the line does not say
	partition string
	at        flow.Timestamp
	move      time.Duration // of clock
	set       bool          // clock is set to at
	text      string
	want      []string // of expect
	end       int      // line behind the last one of expect
}

var commandWords = []string{"with", "in", "watermark", "idle", "clock", "epoch", "crash", "restart", "flush", "expect", "fails"}

func (f *scriptFile) errorf(line int, what, cure string) error {
	return fmt.Errorf("%s:%d: %s; %s", f.path, line, what, cure)
}

// parseScript reads a script; the error is that of the first wrong line.
func parseScript(path, text string) (*scriptFile, error) {
	f := &scriptFile{path: path, lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n"), args: map[string]scriptArg{}}
	var open *command // the expect that indented lines belong to
	closing := ""     // the command that only expect may follow
	for i, raw := range f.lines {
		n, line := i+1, strings.TrimSpace(raw)
		indented := line != "" && strings.ContainsAny(raw[:1], " \t")
		switch {
		case indented && open == nil:
			return nil, f.errorf(n, "an indented line that belongs to no expect", "begin commands at the start of the line, and write what should come out below expect")
		case indented:
			open.want, open.end = append(open.want, line), n+1
			continue
		case line == "" || line[0] == '#':
			continue
		}
		c, err := f.command(n, line)
		if err != nil {
			return nil, err
		}
		open = nil
		if closing == "fails" || closing == "flush" && c.word != "expect" {
			return nil, f.errorf(n, c.word+" behind "+closing+", which ends the topology", "move it above, or write another script")
		}
		switch c.word {
		case "with":
			continue
		case "flush", "fails":
			closing = c.word
		}
		f.cmds = append(f.cmds, c)
		if c.word == "expect" {
			open = &f.cmds[len(f.cmds)-1]
		}
	}
	return f, nil
}

func (f *scriptFile) command(n int, line string) (command, error) {
	word, rest, _ := strings.Cut(line, " ")
	c := command{line: n, word: word, text: strings.TrimSpace(rest), at: flow.None, end: n + 1}
	if !slices.Contains(commandWords, word) {
		return c, f.errorf(n, fmt.Sprintf("unknown command %q", word), "the commands are "+strings.Join(commandWords, ", "))
	}
	var err error
	switch word {
	case "with":
		err = f.with(&c)
	case "in":
		f.address(&c)
		if err = f.time(&c); err == nil && c.text == "" {
			err = f.errorf(n, "a record without a value", "write: in "+ScriptTime(c.at)+" VALUE")
		}
	case "watermark":
		f.address(&c)
		if err = f.time(&c); err == nil {
			err = f.nothingLeft(&c)
		}
		if err == nil && c.at == flow.None {
			err = f.errorf(n, "a watermark of no time", "write a time, or flush for the end of the streams")
		}
	case "idle":
		f.address(&c)
		err = f.nothingLeft(&c)
	case "clock":
		err = f.clock(&c)
	case "fails":
		if c.text == "" {
			err = f.errorf(n, "fails without a text", "write a part of the error that must come")
		}
	default:
		err = f.nothingLeft(&c)
	}
	return c, err
}

func (f *scriptFile) nothingLeft(c *command) error {
	if c.text == "" {
		return nil
	}
	return f.errorf(c.line, fmt.Sprintf("%s with %q behind it", c.word, c.text), "take it away, or move it to the line it belongs to")
}

func (f *scriptFile) with(c *command) error {
	for arg := range strings.FieldsSeq(c.text) {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return f.errorf(c.line, fmt.Sprintf("%q is not an argument", arg), "write: with name=value")
		}
		if _, twice := f.args[name]; twice {
			return f.errorf(c.line, fmt.Sprintf("a second argument %q", name), "take one away")
		}
		f.args[name] = scriptArg{value, c.line}
	}
	return nil
}

// address takes the address at the start of the text, if there is one.
func (f *scriptFile) address(c *command) {
	first, rest, _ := strings.Cut(c.text, " ")
	if first == "" || first == "none" || first[0] != '/' && !isLetter(first[0]) {
		return
	}
	c.input, c.partition, _ = strings.Cut(first, "/")
	c.text = strings.TrimSpace(rest)
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// time takes the time at the start of the text.
func (f *scriptFile) time(c *command) (err error) {
	first, rest, _ := strings.Cut(c.text, " ")
	if c.at, err = parseScriptTime(first); err != nil {
		return f.errorf(c.line, fmt.Sprintf("%q is not a time", first), "write a duration since 1970 like 5s or a moment like 2024-01-01T00:00:00Z, behind the input's name if there is one")
	}
	c.text = strings.TrimSpace(rest)
	return nil
}

func (f *scriptFile) clock(c *command) error {
	var err error
	if c.move, err = time.ParseDuration(c.text); err == nil {
		return nil
	}
	if c.at, err = parseScriptTime(c.text); err != nil || c.at == flow.None {
		return f.errorf(c.line, fmt.Sprintf("%q is no move of the clock", c.text), "write by how much, like 30s, or a moment like 2024-01-01T00:00:30Z")
	}
	c.set = true
	return nil
}

func parseScriptTime(s string) (flow.Timestamp, error) {
	if s == "none" {
		return flow.None, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return flow.Timestamp(d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return flow.TimestampOf(t), err
}

// partitions are those that the script names for an input: at least one. A line without an input names those of the only one.
func (f *scriptFile) partitions(input string) []string {
	var ps []string
	for _, c := range f.cmds {
		if c.partition != "" && (c.input == "" || c.input == input) && !slices.Contains(ps, c.partition) {
			ps = append(ps, c.partition)
		}
	}
	if len(ps) == 0 {
		return []string{"0"}
	}
	slices.Sort(ps)
	return ps
}

// rewrite returns the script with what came out in its expect blocks, and behind its end.
func (f *scriptFile) rewrite(got map[int][]string, rest []string) string {
	var out []string
	at := 0 // lines written
	block := func(lines []string) {
		for _, l := range lines {
			out = append(out, "    "+l)
		}
	}
	for _, c := range f.cmds {
		if c.word == "expect" {
			out = append(out, f.lines[at:c.line]...)
			block(got[c.line])
			at = c.end - 1
		}
	}
	out = append(out, f.lines[at:]...)
	if len(rest) > 0 {
		out = append(out, "expect")
		block(rest)
	}
	return strings.Join(out, "\n") + "\n"
}
