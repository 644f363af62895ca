package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Result is what was measured of one scenario, with all that it takes to judge it.
type Result struct {
	Scenario string    `json:"scenario"`
	About    string    `json:"about"`
	At       time.Time `json:"at"`
	Settings Settings  `json:"settings"`
	Machine  Machine   `json:"machine"`
	Runs     []Run     `json:"runs"`
	// Command is how it was made, as far as it is known.
	Command string `json:"command,omitempty"`
	// Sustained is set where the highest rate was searched for; Runs is then the run at that rate.
	Sustained *Sustained `json:"sustained,omitempty"`
}

// Sustained is what a search came to.
type Sustained struct {
	Rate   float64       `json:"rate"`
	Bound  time.Duration `json:"bound_ns"`
	Probes int           `json:"probes"`
}

// file is the name of a result's file.
func (r *Result) file() string {
	name := strings.ReplaceAll(r.Scenario, "/", "-")
	switch {
	case r.Sustained != nil:
		name += "-sustained"
	case r.Settings.Rate > 0:
		name += fmt.Sprintf("-at-%.0f", r.Settings.Rate)
	}
	return name + ".json"
}

// Machine is where it was measured.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Procs  int    `json:"gomaxprocs"`
	Memory int64  `json:"memory_bytes"`
	OS     string `json:"os"`
	Go     string `json:"go"`
	Commit string `json:"commit"`
	// Load is the load average of the minute before: other work on the machine spoils the numbers.
	Load float64 `json:"load"`
}

// ThisMachine describes the machine, as far as it says.
func ThisMachine() Machine {
	m := Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if kb, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.Memory = kb * 1024
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(b), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	m.Commit = commit()
	return m
}

// commit is that of the program, or, where the build does not say it, that of the folder in which it runs.
func commit() string {
	at := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				at = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				at += changed
			}
		}
	}
	if at != "" {
		return at
	}
	head, err := exec.CommandContext(context.Background(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	at = strings.TrimSpace(string(head))
	if exec.CommandContext(context.Background(), "git", "diff", "--quiet", "HEAD").Run() != nil {
		at += changed
	}
	return at
}

const changed = " and changes"

func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Write stores results as JSON in a folder, one file per scenario and rate.
func Write(dir string, rs ...Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, r := range rs {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, r.file()), append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Read reads the results of a folder and those below it, or of one file.
func Read(path string) ([]Result, error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		files = nil
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(file) == ".json" {
				files = append(files, file)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var all []Result
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var r Result
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s is no result of flowbench: %w", f, err)
		}
		if r.Scenario == "" || len(r.Runs) == 0 && r.Sustained == nil {
			return nil, fmt.Errorf("%s is no result of flowbench: it has no scenario or no runs", f)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no results: make some with flowbench run SCENARIO -out %s", path, path)
	}
	return all, nil
}
