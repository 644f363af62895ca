package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MissingToolError says that a program is missing that fetches or runs a service.
type MissingToolError struct {
	Service string // what needs it
	Tool    string // the program
	Cure    string // the command that installs it
}

func (e *MissingToolError) Error() string {
	return fmt.Sprintf("services: %s needs %s, which is not on PATH; install it with: %s", e.Service, e.Tool, e.Cure)
}

// findTool looks for a program on PATH, then at the given places.
func findTool(service, cure, tool string, places ...string) (string, error) {
	for _, p := range append([]string{tool}, places...) {
		if found, err := exec.LookPath(p); err == nil {
			return filepath.Abs(found)
		}
	}
	return "", &MissingToolError{Service: service, Tool: tool, Cure: cure}
}

// shortLived are arguments of Java machines in a set of its own, which a test starts, kills and starts again: ready in half the processor time, and
// slower when they have run for long.
func (s *Set) shortLived() []string {
	if s.opts.PortOffset == 0 {
		return nil
	}
	return []string{"-XX:TieredStopAtLevel=1", "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"}
}

func findJava(service string) (string, error) {
	var places []string
	if home := os.Getenv("JAVA_HOME"); home != "" {
		places = append(places, filepath.Join(home, "bin", "java"))
	}
	return findTool(service, "apt-get install -y --no-install-recommends openjdk-17-jre-headless", "java", places...)
}

// run runs a program to its end. Its output is in the error when it fails.
func run(ctx context.Context, dir string, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), errors.Join(err, context.Cause(ctx)), lastLines(out.String()))
	}
	return nil
}

// fetched provides cache/name by fill, which fills an empty folder; a download cut off leaves nothing. One download per tool
// runs at a time, since neither Maven nor npm like company in their own caches.
func (s *Set) fetched(ctx context.Context, tool, name string, fill func(dir string) error) error {
	dir := s.cache(name)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	unlock, err := lock(ctx, s.cache(tool+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil // another process was faster
	}
	s.logf("fetching %s by %s", name, tool)
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := os.MkdirAll(partial, 0o755); err != nil {
		return err
	}
	if err := fill(partial); err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	return os.Rename(partial, dir)
}

// fetchedJars provides the run-time class path of a Maven project as the folder cache/name.
func (s *Set) fetchedJars(ctx context.Context, service, name, pom string) error {
	if _, err := findJava(service); err != nil {
		return err
	}
	err := s.fetched(ctx, "mvn", name, func(dir string) error {
		mvn, err := findTool(service, "apt-get install -y --no-install-recommends maven", "mvn")
		if err != nil {
			return err
		}
		// The project file stays beside the jars: it says what they are.
		if err := writeFile(filepath.Join(dir, "pom.xml"), pom); err != nil {
			return err
		}
		return run(ctx, dir, nil, mvn, "-q", "-B", "-f", filepath.Join(dir, "pom.xml"),
			"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
	return named(service, err)
}

// named adds the service to an error that does not name it yet.
func named(service string, err error) error {
	if missing := (*MissingToolError)(nil); err == nil || errors.As(err, &missing) {
		return err
	}
	return fmt.Errorf("services: %s: %w", service, err)
}
