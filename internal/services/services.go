// Package services starts the real servers that integration tests, benchmarks and the demo talk to: mosquitto, RocketMQ,
// Kafka and ClickHouse, and, where they are named, HiveMQ, Redis, MariaDB and PostgreSQL; on 127.0.0.1 and without Docker.
//
// A [Set] is one instance of some of these servers, with its own state folder and its own ports. The set that `make up`
// starts has port offset 0 and is shared by all tests ([Need]); a test that kills servers or changes their settings takes a
// set of its own ([Isolated]). Servers are detached: they outlive the process that started them and stop at [Set.Down] or
// [Set.Kill].
//
// All methods may be called by several goroutines and several processes at once: each server has a lock file, held while it
// is started or stopped. A process is known by a pid file with its start time, so that a reused pid is never mistaken for one
// of ours. Nothing else on the machine is ever signalled.
package services

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Names of the services.
const (
	Mosquitto      = "mosquitto"
	RocketNameSrv  = "rocketmq-namesrv"
	RocketBroker   = "rocketmq-broker"
	Kafka          = "kafka"
	ClickHouse     = "clickhouse"
	Redis          = "redis"
	MariaDB        = "mariadb"
	PostgreSQL     = "postgresql"
	modulePath     = "github.com/millrace-stream/millrace"
	dirEnv         = "MILLRACE_SERVICES_DIR"
	maxPortOffset  = 4000
	portOffsetStep = 100
)

// Options says which servers a [Set] has, where they keep their state and how they are configured. The zero value is the
// shared set that `make up` starts. Settings of a server take effect when it is started next; a running one keeps its own.
type Options struct {
	// Root is the root of the repository. Defaults to the nearest parent of the working directory with Millrace's go.mod.
	Root string
	// Dir is the state folder of the set: configuration, data, logs, pid files. Defaults to set-OFFSET in the services
	// folder, which is .services in Root or what MILLRACE_SERVICES_DIR names. Downloads are in its folder cache, for all sets.
	Dir string
	// PortOffset is added to every base port: a multiple of 100 up to 4000. Defaults to 0, the shared set.
	PortOffset int
	// Names are the services meant when a method is called without names. Defaults to all; for Up and Need to all but HiveMQ,
	// Redis, MariaDB and PostgreSQL, which are started when they are named.
	Names []string
	// Logf reports downloads and starts. Defaults to nothing.
	Logf func(format string, args ...any)

	// MosquittoInflight is max_inflight_messages: unacknowledged messages per client, at most 65535. Defaults to 2000.
	MosquittoInflight int
	// MosquittoQueued is max_queued_messages: messages kept per client beyond those in flight. More are dropped by the
	// broker. Defaults to 1,000,000.
	MosquittoQueued int
	// MosquittoUser and MosquittoPassword, when set, are the only credentials that may connect. Defaults to anonymous access.
	MosquittoUser, MosquittoPassword string
	// MosquittoConf holds lines of mosquitto.conf that come behind ours: the listener's files for TLS. Defaults to none.
	MosquittoConf []string
	// HiveInflight is how many unacknowledged messages a client of HiveMQ has at most, HiveReceiveMaximum how many HiveMQ takes
	// unacknowledged of a client. Default to 1000.
	HiveInflight, HiveReceiveMaximum int
	// HiveQueued is how many messages HiveMQ keeps per client; more are dropped. Defaults to 1,000,000.
	HiveQueued int
	// HiveMaxPacket is the largest packet that HiveMQ takes, in bytes. Defaults to 1 MiB.
	HiveMaxPacket int
	// BrokerConf holds lines of RocketMQ's broker.conf that replace ours or come on top: {"autoCreateTopicEnable": "false"}
	// gives "topic does not exist" errors, {"flushDiskType": "SYNC_FLUSH"} durable sends. Defaults to nothing.
	BrokerConf map[string]string
	// RocketJVM are further arguments of the Java machines of RocketMQ's name server and broker, such as
	// -Dtls.config.file=FILE, the only way to give them certificates. Defaults to none.
	RocketJVM []string
	// RedisArgs are further arguments of Redis: {"--cluster-enabled", "yes"}. Defaults to none.
	RedisArgs []string
	// ClickHouseConfig is a ClickHouse configuration file (XML or YAML) merged over ours: disks, policies, clusters.
	// Defaults to nothing.
	ClickHouseConfig string
}

// Set is one instance of the servers.
type Set struct {
	opts  Options
	base  string // services folder: cache, locks, default state folders
	known []service
}

// Open checks the options and returns the set; it starts nothing and writes nothing.
func Open(opts Options) (*Set, error) {
	if opts.PortOffset < 0 || opts.PortOffset > maxPortOffset || opts.PortOffset%portOffsetStep != 0 {
		return nil, fmt.Errorf("services: port offset %d: want a multiple of %d from 0 to %d",
			opts.PortOffset, portOffsetStep, maxPortOffset)
	}
	if (opts.MosquittoUser == "") != (opts.MosquittoPassword == "") {
		return nil, errors.New("services: MosquittoUser and MosquittoPassword: set both or neither")
	}
	var err error
	if opts.Root == "" {
		if opts.Root, err = findRoot(); err != nil {
			return nil, err
		}
	}
	if opts.Root, err = filepath.Abs(opts.Root); err != nil {
		return nil, fmt.Errorf("services: root: %w", err)
	}
	s := &Set{opts: opts, base: os.Getenv(dirEnv), known: table()}
	if s.base == "" {
		s.base = ".services"
	}
	if !filepath.IsAbs(s.base) { // relative to the root, since every test has its own working directory
		s.base = filepath.Join(opts.Root, s.base)
	}
	if s.opts.Dir == "" {
		s.opts.Dir = filepath.Join(s.base, "set-"+strconv.Itoa(opts.PortOffset))
	}
	if s.opts.Dir, err = filepath.Abs(s.opts.Dir); err != nil {
		return nil, fmt.Errorf("services: dir: %w", err)
	}
	if s.opts.ClickHouseConfig != "" {
		if s.opts.ClickHouseConfig, err = filepath.Abs(s.opts.ClickHouseConfig); err != nil {
			return nil, fmt.Errorf("services: clickhouse configuration: %w", err)
		}
	}
	if _, err := s.pick(opts.Names); err != nil {
		return nil, err
	}
	return s, nil
}

func findRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			if first, _, _ := strings.Cut(string(mod), "\n"); strings.TrimSpace(first) == "module "+modulePath {
				return dir, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("services: no go.mod of %s above %s; run inside the repository or set Options.Root", modulePath, wd)
		}
	}
}

// MQTT returns host:port of mosquitto.
func (s *Set) MQTT() string { return s.addr(basePortMQTT) }

// NameServer returns host:port of RocketMQ's name server.
func (s *Set) NameServer() string { return s.addr(basePortNameSrv) }

// Broker returns host:port of the RocketMQ broker.
func (s *Set) Broker() string { return s.addr(basePortBroker) }

// BrokerMetrics returns host:port of the RocketMQ broker's Prometheus endpoint, path /metrics.
func (s *Set) BrokerMetrics() string { return s.addr(basePortMetrics) }

// Kafka returns host:port of the Kafka broker.
func (s *Set) Kafka() string { return s.addr(basePortKafka) }

// ClickHouseNative returns host:port of ClickHouse's native protocol.
func (s *Set) ClickHouseNative() string { return s.addr(basePortNative) }

// ClickHouseHTTP returns host:port of ClickHouse's HTTP interface.
func (s *Set) ClickHouseHTTP() string { return s.addr(basePortHTTP) }

// Redis returns host:port of Redis, which wants no password.
func (s *Set) Redis() string { return s.addr(basePortRedis) }

// MariaDB returns host:port of MariaDB. User, password and database are those of DatabaseUser.
func (s *Set) MariaDB() string { return s.addr(basePortMariaDB) }

// PostgreSQL returns host:port of PostgreSQL. User, password and database are those of DatabaseUser.
func (s *Set) PostgreSQL() string { return s.addr(basePortPostgreSQL) }

// Log returns the file a server writes its output to. The output of the run before is beside it, with ".1" at the end.
func (s *Set) Log(name string) string { return filepath.Join(s.dir(name), "log") }

func (s *Set) port(base int) int        { return base + s.opts.PortOffset }
func (s *Set) addr(base int) string     { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port(base))) }
func (s *Set) dir(name string) string   { return filepath.Join(s.opts.Dir, name) }
func (s *Set) cache(name string) string { return filepath.Join(s.base, "cache", name) }

func (s *Set) logf(format string, args ...any) {
	if s.opts.Logf != nil {
		s.opts.Logf(format, args...)
	}
}

// pick returns the named services in the order of the table; no names mean those of the options, or all.
func (s *Set) pick(names []string) ([]service, error) {
	if len(names) == 0 {
		names = s.opts.Names
	}
	if len(names) == 0 {
		return s.known, nil
	}
	var all []string
	for _, svc := range s.known {
		all = append(all, svc.name)
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("services: no service %q; known are %s", n, strings.Join(all, ", "))
		}
	}
	var picked []service
	for _, svc := range s.known {
		if slices.Contains(names, svc.name) {
			picked = append(picked, svc)
		}
	}
	return picked, nil
}

// Up starts the named servers and those they need, downloads what is missing, and returns when all are ready. Servers that
// run already are left alone. Without names it means those of the options.
func (s *Set) Up(ctx context.Context, names ...string) error {
	picked, err := s.pick(names)
	if err != nil {
		return err
	}
	if len(names)+len(s.opts.Names) == 0 {
		picked = slices.DeleteFunc(slices.Clone(picked), func(svc service) bool { return svc.onDemand })
	}
	want := make([]string, 0, len(picked)+1)
	for _, svc := range picked {
		want = append(append(want, svc.needs...), svc.name)
	}
	if picked, err = s.pick(want); err != nil {
		return err
	}
	done := make(map[string]chan struct{}, len(picked))
	for _, svc := range picked {
		done[svc.name] = make(chan struct{})
	}
	return each(picked, func(svc service) error {
		defer close(done[svc.name])
		if err := s.provide(ctx, svc); err != nil {
			return err
		}
		for _, need := range svc.needs {
			<-done[need]
		}
		return s.start(ctx, svc)
	})
}

// Start starts one server, such as one that [Set.Kill] ended, and returns when it is ready. Servers it needs must run.
func (s *Set) Start(ctx context.Context, name string) error {
	picked, err := s.pick([]string{name})
	if err != nil {
		return err
	}
	if err := s.provide(ctx, picked[0]); err != nil {
		return err
	}
	return s.start(ctx, picked[0])
}

// Down stops the named servers in order (SIGTERM; SIGKILL after 30 s) and returns when their processes are gone. Data
// stays. Servers that do not run are left alone. Without names it means those of the options.
func (s *Set) Down(ctx context.Context, names ...string) error {
	picked, err := s.pick(names)
	if err != nil {
		return err
	}
	done := make(map[string]chan struct{}, len(picked))
	for _, svc := range picked {
		done[svc.name] = make(chan struct{})
	}
	return each(picked, func(svc service) error {
		defer close(done[svc.name])
		for _, other := range picked { // those that need this one go first
			if slices.Contains(other.needs, svc.name) {
				<-done[other.name]
			}
		}
		return s.stop(ctx, svc, 30*time.Second)
	})
}

// Kill ends one server with SIGKILL and returns when its process and ports are gone. Data stays as the crash left it.
func (s *Set) Kill(ctx context.Context, name string) error {
	picked, err := s.pick([]string{name})
	if err != nil {
		return err
	}
	return s.stop(ctx, picked[0], 0)
}

// DownAll stops all servers of all sets in the services folder: the shared one in order, those of tests by force.
func DownAll(ctx context.Context, opts Options) error {
	opts.Dir = ""
	s, err := Open(opts)
	if err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(s.base, "set-*", "*", "pid"))
	if err != nil {
		return err
	}
	sets := map[string]*Set{}
	for _, pid := range dirs {
		dir := filepath.Dir(filepath.Dir(pid))
		opts.Dir = dir
		if sets[dir], err = Open(opts); err != nil {
			return err
		}
	}
	var errs []error
	for dir, set := range sets {
		if filepath.Base(dir) == "set-0" {
			errs = append(errs, set.Down(ctx))
			continue
		}
		errs = append(errs, each(set.known, func(svc service) error { return set.stop(ctx, svc, 0) }))
	}
	return errors.Join(errs...)
}

// each runs f for all services at once and joins the errors.
func each(list []service, f func(service) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, svc := range list {
		wg.Go(func() { errs[i] = f(svc) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
