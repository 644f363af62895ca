package services

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Base ports; see [Options].PortOffset. No two of them (nor RocketMQ's further ones) differ by a multiple of 100, so that
// sets never meet.
const (
	basePortMetrics    = 5557
	basePortNameSrv    = 9876
	basePortBroker     = 10911 // the broker takes 10909 and, on all interfaces, 10912 too
	basePortMariaDB    = 13306
	basePortPostgreSQL = 15432
	basePortRedis      = 16379
	basePortHTTP       = 18123
	basePortMQTT       = 18831
	basePortNative     = 19000
	basePortKafka      = 19092
	basePortController = 19093
)

// startLimit bounds a start when the context has no deadline: the slowest server takes 10 s, and many times that on a busy
// machine.
const startLimit = 4 * time.Minute

// service is one server: how it is fetched, started and found ready.
type service struct {
	name  string
	needs []string // servers that must be ready before
	ports []int    // base ports; clients use the first
	// onDemand: it is started only where it is named.
	onDemand bool
	// fetch provides programs and libraries, once for all sets.
	fetch func(ctx context.Context, s *Set) error
	// configure writes configuration into the server's folder and returns the command line.
	configure func(ctx context.Context, s *Set, dir string) (argv []string, err error)
	// ready returns nil when the server serves. It is asked again and again until then.
	ready func(ctx context.Context, s *Set) error
}

func table() []service {
	return []service{
		{
			name: Mosquitto, ports: []int{basePortMQTT},
			fetch: fetchMosquitto, configure: configureMosquitto, ready: readyMosquitto,
		},
		hiveService(),
		{
			name: RocketNameSrv, ports: []int{basePortNameSrv},
			fetch: fetchRocketMQ, configure: configureNameSrv, ready: readyNameSrv,
		},
		{
			name: RocketBroker, needs: []string{RocketNameSrv},
			ports: []int{basePortBroker, basePortBroker - 2, basePortBroker + 1, basePortMetrics},
			fetch: fetchRocketMQ, configure: configureBroker, ready: readyBroker,
		},
		{
			name: Kafka, ports: []int{basePortKafka, basePortController},
			fetch: fetchKafka, configure: configureKafka, ready: readyKafka,
		},
		{
			name: ClickHouse, ports: []int{basePortNative, basePortHTTP},
			fetch: fetchClickHouse, configure: configureClickHouse, ready: readyClickHouse,
		},
		{
			name: Redis, ports: []int{basePortRedis}, onDemand: true,
			fetch: fetchRedis, configure: configureRedis, ready: readyRedis,
		},
		{
			name: MariaDB, ports: []int{basePortMariaDB}, onDemand: true,
			fetch: fetchMariaDB, configure: configureMariaDB, ready: readyMariaDB,
		},
		{
			name: PostgreSQL, ports: []int{basePortPostgreSQL}, onDemand: true,
			fetch: fetchPostgreSQL, configure: configurePostgreSQL, ready: readyPostgreSQL,
		},
	}
}

func (s *Set) pidFile(name string) string { return filepath.Join(s.dir(name), "pid") }

// provide fetches what a server needs unless it runs already.
func (s *Set) provide(ctx context.Context, svc service) error {
	if _, ok := s.running(svc.name); ok {
		return nil
	}
	return svc.fetch(ctx, s)
}

// start starts a server unless it runs, and waits until it is ready.
func (s *Set) start(ctx context.Context, svc service) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startLimit)
		defer cancel()
	}
	dir := s.dir(svc.name)
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("services: %s: %w", svc.name, err)
	}
	defer unlock()
	if p, ok := s.running(svc.name); ok {
		return s.awaitReady(ctx, svc, p)
	}
	for _, need := range svc.needs {
		if _, ok := s.running(need); !ok {
			return fmt.Errorf("services: %s needs %s, which does not run; start that first", svc.name, need)
		}
	}
	if err := s.portsFree(ctx, svc); err != nil {
		return err
	}
	argv, err := svc.configure(ctx, s, dir)
	if err != nil {
		return fmt.Errorf("services: %s: %w", svc.name, err)
	}
	began := time.Now()
	if err := os.Rename(s.Log(svc.name), s.Log(svc.name)+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("services: %s: %w", svc.name, err)
	}
	p, err := spawn(ctx, dir, s.Log(svc.name), argv)
	if err != nil {
		return fmt.Errorf("services: %s: %w\n%s", svc.name, err, tail(s.Log(svc.name)))
	}
	if err := writeFile(s.pidFile(svc.name), p.String()); err != nil {
		return errors.Join(err, p.kill())
	}
	if err := s.awaitReady(ctx, svc, p); err != nil {
		// What never became ready is not left behind.
		return errors.Join(err, p.kill())
	}
	s.logf("%s ready on %s after %.1f s", svc.name, s.addr(svc.ports[0]), time.Since(began).Seconds())
	return nil
}

// portsFree says which port of the server another process has.
func (s *Set) portsFree(ctx context.Context, svc service) error {
	for _, base := range svc.ports {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.addr(base))
		if err != nil {
			return fmt.Errorf("services: %s: port %d is taken by a process that is not ours (%w); "+
				"stop it or use another port offset", svc.name, s.port(base), err)
		}
		_ = l.Close()
	}
	return nil
}

// awaitReady asks until the server is ready, its process has ended or the context is over.
func (s *Set) awaitReady(ctx context.Context, svc service, p process) error {
	var last error
	err := until(ctx, func() bool {
		if !p.alive() {
			last = errEnded
			return true
		}
		last = svc.ready(ctx, s)
		return last == nil
	})
	switch {
	case last == nil && err == nil:
		return nil
	case errors.Is(last, errEnded):
		return fmt.Errorf("services: %s %w; the end of %s:\n%s", svc.name, errEnded, s.Log(svc.name), tail(s.Log(svc.name)))
	default:
		return fmt.Errorf("services: %s is not ready: %w (last check: %w); the end of %s:\n%s",
			svc.name, err, last, s.Log(svc.name), tail(s.Log(svc.name)))
	}
}

var errEnded = errors.New("ended before it was ready")

// stop ends a server: at once without grace, else in order and by force when the grace is over.
func (s *Set) stop(ctx context.Context, svc service, grace time.Duration) error {
	if _, err := os.Stat(s.pidFile(svc.name)); errors.Is(err, fs.ErrNotExist) {
		return nil // never started: leave no trace of a lock either
	}
	unlock, err := lock(ctx, filepath.Join(s.dir(svc.name), "lock"))
	if err != nil {
		return fmt.Errorf("services: %s: %w", svc.name, err)
	}
	defer unlock()
	p, ok := s.running(svc.name)
	if ok && grace > 0 {
		if err := p.terminate(); err != nil {
			return fmt.Errorf("services: %s: %w", svc.name, err)
		}
		graceful, cancel := context.WithTimeout(ctx, grace)
		_ = until(graceful, func() bool { return !p.alive() })
		cancel()
	}
	if ok {
		if err := p.kill(); err != nil {
			return fmt.Errorf("services: %s: %w", svc.name, err)
		}
		if err := until(ctx, func() bool { return !p.alive() }); err != nil {
			return fmt.Errorf("services: %s: process %d is still there: %w", svc.name, p.pid, err)
		}
		// A child that the kernel ends with it may take a moment.
		gone, cancel := context.WithTimeout(ctx, 5*time.Second)
		_ = until(gone, func() bool {
			return !slices.ContainsFunc(svc.ports, func(base int) bool { return s.dial(gone, base) == nil })
		})
		cancel()
		s.logf("%s stopped", svc.name)
	}
	if err := os.Remove(s.pidFile(svc.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("services: %s: %w", svc.name, err)
	}
	return nil
}

// running returns the process of the pid file when it is alive and the one that we started.
func (s *Set) running(name string) (process, bool) {
	text, err := os.ReadFile(s.pidFile(name))
	if err != nil {
		return process{}, false
	}
	p, err := parseProcess(string(text))
	return p, err == nil && p.alive()
}

// until calls f every 20 ms until it returns true; the error is that of the context.
func until(ctx context.Context, f func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// writeFile writes a small file in one step, so that a reader sees all of it or none.
func writeFile(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// tail returns the end of a log.
func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return "\t(no log: " + err.Error() + ")"
	}
	return lastLines(string(text))
}

// lastLines returns at most 15 lines, indented.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-15):], "\n\t")
}

// dial reports whether something listens on the base port.
func (s *Set) dial(ctx context.Context, base int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr(base))
	if err != nil {
		return err
	}
	return conn.Close()
}
