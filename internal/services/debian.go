package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// debian is a server out of Debian's packages.
type debian struct {
	service  string
	packages []string
	// units are the system services that come with the packages. They are not left running.
	units []string
	// find looks for the server's program.
	find func() (string, error)
}

// cure is the command that installs the packages.
func cure(packages ...string) string {
	c := "apt-get install -y --no-install-recommends"
	for _, p := range packages {
		c += " " + p
	}
	return c
}

// install installs the packages when the program is missing and we may.
func (d debian) install(ctx context.Context, s *Set) error {
	_, missing := d.find()
	if missing == nil {
		return nil
	}
	apt, err := findTool(d.service, cure(d.packages...), "apt-get")
	if err != nil || os.Geteuid() != 0 {
		return missing
	}
	unlock, err := lock(ctx, s.cache("apt.lock"))
	if err != nil {
		return fmt.Errorf("services: %s: %w", d.service, err)
	}
	defer unlock()
	if _, err := d.find(); err == nil {
		return nil // another process was faster
	}
	s.logf("%s: installing the Debian packages", d.service)
	argv := append([]string{apt, "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends"}, d.packages...)
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := run(ctx, s.base, env, argv...); err != nil { // the lists may be missing or old
		if err := run(ctx, s.base, env, apt, "update"); err != nil {
			return fmt.Errorf("services: %s: %w", d.service, err)
		}
		if err := run(ctx, s.base, env, argv...); err != nil {
			return fmt.Errorf("services: %s: %w", d.service, err)
		}
	}
	for _, unit := range d.units {
		if err := d.disable(ctx, s, unit); err != nil {
			return fmt.Errorf("services: %s: %w", d.service, err)
		}
	}
	return nil
}

func (d debian) disable(ctx context.Context, s *Set, unit string) error {
	if systemctl, err := exec.LookPath("systemctl"); err == nil {
		argv := []string{systemctl, "disable", unit}
		if _, err := os.Stat("/run/systemd/system"); err == nil { // systemd runs, so the service may
			argv = append(argv, "--now")
		}
		if err := run(ctx, s.base, nil, argv...); err != nil {
			return err
		}
	}
	init := filepath.Join("/etc/init.d", unit)
	if _, err := os.Stat(init); err == nil {
		return run(ctx, s.base, nil, init, "stop")
	}
	return nil
}
