package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one process of this boot of the machine. A pid alone would not do: pids are used again.
type process struct {
	pid   int
	start uint64 // clock ticks from boot to start
	boot  string
}

// spawn starts a program in a session of its own, with no input and its output in the log file. The shell between gives it
// to init, so that the program neither ends with us nor stays as our zombie.
func spawn(ctx context.Context, dir, log string, argv []string) (process, error) {
	const script = `log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!`
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sh", log}, argv...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	_, start, err := stat(pid)
	if err != nil {
		return process{}, fmt.Errorf("%s %w", argv[0], errEnded)
	}
	return process{pid: pid, start: start, boot: bootID()}, nil
}

// stat reads state and start time from /proc/PID/stat.
func stat(pid int) (state string, start uint64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, err
	}
	// The program's name, in parentheses, may hold anything: count the fields after it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return "", 0, fmt.Errorf("services: /proc/%d/stat has %d fields", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0], start, err
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// String is the form of the pid file.
func (p process) String() string { return fmt.Sprintf("%d %d %s\n", p.pid, p.start, p.boot) }

func parseProcess(text string) (p process, err error) {
	_, err = fmt.Sscan(text, &p.pid, &p.start, &p.boot)
	return p, err
}

// alive says whether the process still has a running thread. A zombie holds neither files nor ports and counts as dead.
func (p process) alive() bool {
	state, start, err := stat(p.pid)
	if err != nil || start != p.start || p.boot != bootID() {
		return false
	}
	if state != "Z" && state != "X" {
		return true
	}
	// The first thread may be a zombie while others still end.
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.pid), "task"))
	return err == nil && len(threads) > 1
}

func (p process) terminate() error { return p.signal(syscall.SIGTERM) }
func (p process) kill() error      { return p.signal(syscall.SIGKILL) }

// signal holds the process by a handle while it compares the start time, so that it cannot hit a successor of the pid.
func (p process) signal(sig os.Signal) error {
	h, err := os.FindProcess(p.pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", p.pid, err)
	}
	defer func() { _ = h.Release() }()
	if !p.alive() {
		return nil
	}
	if err := h.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// memory returns the resident memory of the process and its children in bytes, 0 when unknown.
func (p process) memory() int64 {
	sum := resident(strconv.Itoa(p.pid))
	lists, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(p.pid), "task", "*", "children"))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(children)) {
			sum += resident(child)
		}
	}
	return sum
}

func resident(pid string) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "statm"))
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// lock takes the lock file, waiting for other processes and goroutines, and returns what gives it back.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	var failed error
	err = until(ctx, func() bool {
		failed = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		return !errors.Is(failed, syscall.EWOULDBLOCK) && !errors.Is(failed, syscall.EINTR)
	})
	if err = errors.Join(err, failed); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}
