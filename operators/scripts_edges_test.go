package operators_test

import (
	"flag"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

var _ = flag.Bool("update", false, "rewrite the expect blocks of the scripts")

// TestScripts runs testdata/scripts: what windows of each kind do, case by case. A value is a key and a number, which are summed.
func TestScripts(t *testing.T) {
	flowtest.RunScripts(t, "testdata/scripts/*.txt", func(s *flowtest.Script) {
		in := flowtest.ScriptInput(s, "in", func(text string) (e event, err error) {
			_, err = fmt.Sscanf(text, "%s %d", &e.Key, &e.N)
			return e, err
		})
		sums := operators.Window(flow.KeyBy(in, event.key), "sums", scriptWindow(s), agg.Sum(event.n), scriptOptions(s)...)
		flowtest.ScriptOutput(s, "out", sums, func(r window.Result[string, int64]) string {
			bounds := "whole"
			if r.Start != flow.None {
				bounds = fmt.Sprintf("[%s,%s)", flowtest.ScriptTime(r.Start), flowtest.ScriptTime(r.End))
			}
			return fmt.Sprintf("%s %s %d %s, pane %d", r.Key, bounds, r.Value, r.Pane.Kind, r.Pane.Index)
		})
		flowtest.ScriptOutput(s, "late", sums.Late(), func(l flow.Late[event]) string {
			return fmt.Sprintf("%s %d at %s: %s", l.Value.Key, l.Value.N, flowtest.ScriptTime(l.Time), l.Reason)
		})
	})
}

// scriptWindow is the window that a script's arguments name.
func scriptWindow(s *flowtest.Script) window.Plain {
	size, slide, gap := s.Duration("size", time.Minute), s.Duration("slide", time.Minute), s.Duration("gap", time.Minute)
	offset := window.Offset(s.Duration("offset", 0))
	n, _ := strconv.Atoi(s.Arg("n", "3"))
	every, _ := strconv.Atoi(s.Arg("every", "1"))
	place, err := time.LoadLocation(s.Arg("place", "UTC"))
	if err != nil {
		place = nil // which Validate refuses
	}
	switch s.Arg("window", "tumbling") {
	case "sliding":
		return window.Sliding(size, slide, offset)
	case "session":
		return window.Session(gap)
	case "count":
		return window.Count(n)
	case "last":
		return window.Last(n, every)
	case "global":
		return window.Global()
	case "trailing":
		return window.Trailing(size)
	case "while": // the number says on
		return window.While(func(e event) bool { return e.N > 0 })
	case "days":
		return window.Days(place)
	}
	return window.Tumbling(size, offset)
}

func scriptOptions(s *flowtest.Script) (opts []window.Option) {
	if d := s.Duration("lateness", 0); d != 0 {
		opts = append(opts, window.AllowedLateness(d))
	}
	if d := s.Duration("early", 0); d != 0 {
		opts = append(opts, window.Early(d))
	}
	if n, _ := strconv.Atoi(s.Arg("on-count", "0")); n > 0 {
		opts = append(opts, window.OnCount(n))
	}
	if d := s.Duration("max-wait", 0); d != 0 {
		opts = append(opts, window.MaxWait(d))
	}
	if s.Arg("final-only", "no") == "yes" {
		opts = append(opts, window.FinalOnly())
	}
	if s.Arg("discarding", "no") == "yes" {
		opts = append(opts, window.Discarding())
	}
	return opts
}
