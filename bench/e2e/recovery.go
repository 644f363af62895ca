package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
)

// Recovery kills a process with SIGKILL in the middle of its work and measures the start of the next one over the same state: a window that
// holds an entry for each of Keys devices.
type Recovery struct {
	// Keys is how many entries. Zero means 1,000,000.
	Keys int64
	// Command makes the process that runs Child with a folder and a number of keys.
	Command func(ctx context.Context, dir string, keys int64) *exec.Cmd
	// Note, if it is not nil, is told what is being done.
	Note func(string)
}

// Recovered is what was measured, from before the process was started.
type Recovered struct {
	// Restored is until the state is back and the source is being read, First until the first record behind the restored position is through the
	// operator that has the state.
	Restored, First time.Duration
	// StateBytes is the size of the state's files when the process was killed.
	StateBytes int64
	// From is the position of the restored state: as many records are in it.
	From int64
	Rows int64
}

// said is a line of the child's.
type said struct {
	What  string `json:"what"`
	At    int64  `json:"at,omitempty"`
	Rows  int64  `json:"rows,omitempty"`
	Wrong int64  `json:"wrong,omitempty"`
	Error string `json:"error,omitempty"`
}

// What a child says.
const (
	saidCommitted = "committed" // all entries are in the state's files
	saidRestored  = "restored"
	saidFirst     = "first"
	saidEnd       = "end"
)

// Run does it once.
func (r Recovery) Run(ctx context.Context) (Recovered, error) {
	if r.Keys == 0 {
		r.Keys = 1_000_000
	}
	if r.Note == nil {
		r.Note = func(string) {}
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return Recovered{}, err
	}
	got, err := r.in(ctx, dir)
	return got, errors.Join(err, os.RemoveAll(dir))
}

func (r Recovery) in(ctx context.Context, dir string) (got Recovered, err error) {
	err = r.child(ctx, dir, func(s said, _ time.Duration, kill func() error) error {
		if s.What != saidCommitted {
			return nil
		}
		r.Note(fmt.Sprintf("%d records of %d devices are committed, and more come: SIGKILL", s.At, r.Keys))
		return kill()
	})
	if err != nil {
		return got, err
	}
	if got.StateBytes, err = size(dir); err != nil {
		return got, err
	}
	ended := false
	err = r.child(ctx, dir, func(s said, at time.Duration, _ func() error) error {
		switch s.What {
		case saidRestored:
			got.Restored = at
		case saidFirst:
			got.First, got.From = at, s.At
		case saidEnd:
			ended, got.Rows = true, s.Rows
			if s.Rows != r.Keys || s.Wrong != 0 {
				return fmt.Errorf("the restored state was wrong: %d of %d devices came out, %d with other values than their records have", s.Rows, r.Keys, s.Wrong)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return got, err
	case !ended || got.Restored == 0 || got.First == 0:
		return got, errors.New("the second process ended too early")
	case got.From < r.Keys:
		return got, fmt.Errorf("the second process began at record %d: nothing was restored", got.From)
	}
	return got, nil
}

var errKilled = errors.New("killed")

// child runs a process and hands on what it says, with when.
func (r Recovery) child(ctx context.Context, dir string, heard func(s said, at time.Duration, kill func() error) error) error {
	cmd := r.Command(ctx, dir, r.Keys)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	kill := func() error {
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		return errKilled
	}
	lines := bufio.NewScanner(out)
	for err == nil && lines.Scan() {
		at := time.Since(began)
		var s said
		if json.Unmarshal(lines.Bytes(), &s) != nil {
			continue // a test binary says things of its own
		}
		if s.Error != "" {
			err = errors.New(s.Error)
			break
		}
		err = heard(s, at, kill)
	}
	if err != nil && !errors.Is(err, errKilled) {
		err = errors.Join(err, cmd.Process.Kill())
	}
	_, _ = io.Copy(io.Discard, out)
	ended := cmd.Wait()
	switch {
	case errors.Is(err, errKilled):
		return nil
	case err != nil:
		return err
	case ended != nil:
		return fmt.Errorf("child: %w: %s", ended, errs.String())
	}
	return lines.Err()
}

func size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// Results puts recoveries into the form of other results: Seconds is the time, Events are the entries of the state.
func (r Recovery) Results(all []Recovered) []harness.Result {
	about := " behind a SIGKILL, from the start of the process, with " + fmt.Sprint(max(r.Keys, 0)) + " window entries"
	of := func(scenario, what string, value func(Recovered) time.Duration) harness.Result {
		x := harness.Result{Scenario: scenario, About: what + about, Machine: harness.ThisMachine(), At: time.Now().UTC().Truncate(time.Second)}
		x.Settings.Events, x.Settings.Runs = r.Keys, len(all)
		for _, a := range all {
			s := value(a).Seconds()
			x.Runs = append(x.Runs, harness.Run{Events: r.Keys, Out: a.Rows, Seconds: s, PerSecond: float64(r.Keys) / s})
		}
		return x
	}
	return []harness.Result{
		of("recovery/restored", "state restored and source read", func(a Recovered) time.Duration { return a.Restored }),
		of("recovery/first-record", "first record through the operator with the state", func(a Recovered) time.Duration { return a.First }),
	}
}
