package flowtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// Script is one scripted test: a text file of inputs, watermarks, moves of the clock, epochs and crashes, and of what must come out.
// RunScripts runs it; the setup function names its inputs and outputs, with the topology under test between them.
//
//	# Tumbling windows fire when the watermark reaches their last moment.
//	with size=1m lateness=10s
//
//	in 5s a 20
//	in 50s a 30
//	watermark 1m
//	expect
//	    a [0s,1m) 50 on time
//
// A script has one command per line. Lines that are empty or begin with # are comments. TIME is a duration since 1970 (5s, -1m30s, 0) or a
// moment in RFC 3339; ADDRESS is an input, a partition of it, or both (left, /1, left/1) and may be left out where there is one
// input; a partition exists from the start when any line names it.
//
//	with NAME=VALUE ...      arguments for setup: Script.Arg, Script.Duration
//	in ADDRESS TIME VALUE    a record; the rest of the line is what the input's parse function gets
//	watermark ADDRESS TIME   the watermark of the address, of all its partitions, or of all inputs
//	idle ADDRESS             the source says that there is nothing: once the clock has gone on by 30 s the partition holds nothing back
//	clock DURATION           moves the clock, which starts on 2024-01-01T00:00:00Z; a negative duration sets it back
//	clock TIME               sets the clock to a moment in RFC 3339
//	epoch                    commits an epoch
//	crash                    ends the topology as kill -9 would, and starts it again on the last epoch
//	restart                  stops it in order and starts it again
//	flush                    ends the streams: windows fire. Only expect may follow
//	expect                   commits an epoch; what came out since the last expect must be the indented lines below, none if there are none
//	fails TEXT               the topology has refused to start or has stopped, with an error that contains TEXT. Nothing may follow
//
// Lines of expect stand in order of delivery, output by output in the order in which setup names them; with more than one output
// each line begins with the output's name and a colon. What comes out and is not expected at the end of the script is an error too.
type Script struct {
	top   *flow.Topology
	file  *scriptFile
	asked map[string]bool
	// inputs and outputs outlive crashes, as a broker and a database do.
	inputs  map[string]scriptInput
	order   []string
	outputs []scriptOutput
	named   map[string]bool
	err     error
}

// RunScripts runs each file that glob names as a subtest: setup builds what is tested, anew at each start. Every script is run as written,
// then with an epoch and a crash behind each line (up to the first idle, since idle clocks begin anew at a start), and then with
// four tasks, where the order of the lines of an expect is free: all must give what it expects.
//
// With the test's flag -update the expect blocks are rewritten with what came out. This package registers no flag, as it would collide with those
// of its users: declare it in a test file of yours,
//
//	var _ = flag.Bool("update", false, "rewrite the expect blocks of the scripts")
//
// or set the environment variable MILLRACE_UPDATE=1.
func RunScripts(t *testing.T, glob string, setup func(s *Script), opts ...flow.TopologyOption) {
	t.Helper()
	paths, err := filepath.Glob(glob)
	require.NoError(t, err)
	require.NotEmpty(t, paths, "flowtest: no script matches %s: give a pattern relative to the test's folder", glob)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			s := &scriptTest{path: path, text: string(text), setup: setup, opts: opts, update: updating()}
			after, err := s.run(t)
			if err != nil {
				t.Fatal(err)
			}
			if after != string(text) {
				require.NoError(t, os.WriteFile(path, []byte(after), 0o600))
			}
		})
	}
}

// Topology is the one under test, for what needs it, like DeadLetters.
func (s *Script) Topology() *flow.Topology { return s.top }

// Arg is an argument of the script's with lines, or otherwise where it does not give that one.
func (s *Script) Arg(name, otherwise string) string {
	s.asked[name] = true
	if a, ok := s.file.args[name]; ok {
		return a.value
	}
	return otherwise
}

// Duration is Arg for a duration.
func (s *Script) Duration(name string, otherwise time.Duration) time.Duration {
	v := s.Arg(name, "")
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		s.problem(s.file.args[name].line, fmt.Sprintf("%s=%s is not a duration", name, v), "write one like 1m30s")
	}
	return d
}

// ScriptInput is a stream of the script's in lines, with the times and watermarks that the script says. parse makes a record of the rest of
// the line; nil decodes JSON.
func ScriptInput[T any](s *Script, name string, parse func(string) (T, error)) flow.Stream[T] {
	return inputOf(s, name, func(partitions []string) *timedInput[T] {
		return &timedInput[T]{newScriptSource[scripted[T]](partitions), parseOr(parse)}
	}).stream(s.top, name)
}

// ScriptSource is ScriptInput without event time: the TIME of an in line is the record's reference time, as a broker gives
// it (none where it gives none), and the topology under test has an AssignTime of its own, whose strategy makes the watermarks.
func ScriptSource[T any](s *Script, name string, parse func(string) (T, error)) flow.Stream[T] {
	return flow.From(s.top, name+"-input", inputOf(s, name, func(partitions []string) *plainInput[T] {
		return &plainInput[T]{newScriptSource[T](partitions), parseOr(parse)}
	}).src)
}

// ScriptOutput lets the script expect what the stream brings, each record as one line; format nil prints JSON.
func ScriptOutput[T any](s *Script, name string, from flow.Stream[T], format func(T) string) {
	if format == nil {
		format = func(v T) string {
			b, err := json.Marshal(v)
			if err != nil {
				return fmt.Sprintf("%+v (%v)", v, err)
			}
			return string(b)
		}
	}
	s.once("output", name)
	i := slices.IndexFunc(s.outputs, func(o scriptOutput) bool { return o.name == name })
	if i < 0 {
		sink := NewSink[T]()
		s.outputs = append(s.outputs, scriptOutput{name, sink, func() (lines []string) {
			for _, v := range sink.Next() {
				lines = append(lines, oneLine(format(v)))
			}
			return lines
		}})
		i = len(s.outputs) - 1
	}
	flow.To(from, name+"-output", s.outputs[i].sink.(*Sink[T]))
}

// ScriptTime prints a time as scripts write it: a duration since 1970 up to 1000 hours, else RFC 3339; none for flow.None.
func ScriptTime(t flow.Timestamp) string {
	d := time.Duration(t)
	if t == flow.None || t == flow.EndOfTime || d.Abs() > 1000*time.Hour {
		return t.String()
	}
	text := d.String() // 1h0m0s is 1h
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

type scriptOutput struct {
	name string
	sink any
	next func() []string
}

func oneLine(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(s))
}

func parseOr[T any](parse func(string) (T, error)) func(string) (T, error) {
	if parse != nil {
		return parse
	}
	return func(text string) (v T, err error) {
		err = json.Unmarshal([]byte(text), &v)
		return v, err
	}
}

// once records that setup names an input or output, a second time is a mistake.
func (s *Script) once(what, name string) {
	if s.named[what+" "+name] {
		s.fail(fmt.Errorf("%s: setup has two %ss named %q; give each a name of its own", s.file.path, what, name))
	}
	s.named[what+" "+name] = true
}

func (s *Script) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *Script) problem(line int, what, cure string) { s.fail(s.file.errorf(line, what, cure)) }

// updating tells whether the expect blocks are to be rewritten.
func updating() bool { return os.Getenv("MILLRACE_UPDATE") == "1" || updateFlag() }
