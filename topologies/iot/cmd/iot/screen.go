package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// screen shows lines that change: in place on a terminal, else as one line every few seconds.
type screen struct {
	w    io.Writer
	tty  bool
	last int
}

func newScreen(w io.Writer, environ []string) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok && !slices.Contains(environ, "TERM=dumb") {
		info, err := f.Stat()
		s.tty = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

func (s *screen) interval() time.Duration {
	if s.tty {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

// update shows the lines in place of those before.
func (s *screen) update(lines []string) {
	if !s.tty {
		fmt.Fprintln(s.w, strings.Join(strings.Fields(strings.Join(lines, "   ")), " "))
		return
	}
	var b strings.Builder
	if s.last > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.last)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "\x1b[2K%s\n", l)
	}
	s.last = len(lines)
	_, _ = io.WriteString(s.w, b.String())
}
