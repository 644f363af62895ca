package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/check"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
	"github.com/millrace-stream/millrace/topologies/iot/internal/simulate"
)

// queues is how many queues the topic has: the partitions of iot data.
const queues = 4

// chain is the data path as separate processes on servers of its own.
type chain struct {
	t       *testing.T
	set     *services.Set
	dir     string
	bin     string
	environ []string
	cfg     iot.Config
	// counters add up what the boxes said about themselves, over all their processes.
	counters map[string]int64
}

// build compiles the command once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "iot")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/millrace-stream/millrace/topologies/iot/cmd/iot").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// number reads a whole number from the environment.
func number(t *testing.T, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err, "%s is a whole number", name)
	require.Positive(t, n, "%s", name)
	return n
}

// newChain starts the servers. settings are further ones for the command, KEY=VALUE.
func newChain(t *testing.T, settings ...string) *chain {
	bin, err := build()
	require.NoError(t, err)
	set := services.Isolated(t, services.Options{}, services.Mosquitto, services.RocketNameSrv, services.RocketBroker, services.ClickHouse)
	c := &chain{t: t, set: set, dir: t.TempDir(), bin: bin, environ: os.Environ(), counters: map[string]int64{}}
	settings = append([]string{
		"MQTT_BROKER=tcp://" + set.MQTT(), "ROCKETMQ_NAME_SERVERS=" + set.NameServer(), "CLICKHOUSE_ADDR=" + set.ClickHouseNative(),
		"STORE_DIR=" + filepath.Join(c.dir, "state"), "SIMULATE_LEDGER=" + filepath.Join(c.dir, "ledger.jsonl"),
	}, settings...)
	for _, s := range settings {
		c.environ = append(c.environ, iot.EnvPrefix+s)
	}
	c.cfg, err = iot.LoadConfig("", c.environ)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, set.CreateTopic(ctx, c.cfg.RocketMQ.Topic, queues))
	require.NoError(t, simulate.OpenSessions(ctx, c.cfg.MQTT))
	require.NoError(t, iot.CreateTables(ctx, c.cfg.ClickHouse))
	return c
}

// process is a running command. Its output goes to a file, which is printed when the test fails.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// start starts a command.
func (c *chain) start(name string, args ...string) *process {
	c.t.Helper()
	p := &process{name: name, log: filepath.Join(c.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(c.t, err)
	p.cmd = exec.Command(c.bin, append([]string{name}, args...)...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.environ, out, out
	require.NoError(c.t, p.cmd.Start())
	require.NoError(c.t, out.Close()) // the process has its own
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	c.t.Cleanup(func() {
		p.kill()
		if c.t.Failed() {
			c.t.Logf("end of %s:\n%s", p.log, tail(p.log))
		}
	})
	return p
}

func (c *chain) simulate(readings int64, rate float64) *process {
	return c.start("simulate", "-readings", fmt.Sprint(readings), "-rate", fmt.Sprint(rate), "-status", c.statusFile("simulate"))
}

func (c *chain) box(name string) *process {
	return c.start(name, "-finish", "-status", c.statusFile(name))
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// ended tells whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// requireEnd waits for the end of a process, which must be a success.
func (c *chain) requireEnd(p *process, within time.Duration) {
	c.t.Helper()
	select {
	case <-p.done:
		require.NoError(c.t, p.err, "%s:\n%s", p.name, tail(p.log))
	case <-time.After(within):
		require.Fail(c.t, "no end", "%s still runs after %v:\n%s", p.name, within, tail(p.log))
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// status is what a box says about itself; see the command.
type status struct {
	Read, Unacked, Lag        int64
	Counters                  []flow.Counter
	Published, Acked, Retries int64
	WarmedUp                  bool
}

func (c *chain) statusFile(name string) string { return filepath.Join(c.dir, name+".status") }

// status reads what a box said last; the zero status if it has not said anything yet.
func (c *chain) status(name string) (s status) {
	text, err := os.ReadFile(c.statusFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return s
	}
	require.NoError(c.t, err)
	require.NoError(c.t, json.Unmarshal(text, &s))
	return s
}

// remember adds the counters of a box to those of its earlier processes, before it is killed or after it has ended.
func (c *chain) remember(name string) {
	for _, n := range c.status(name).Counters {
		switch n.Name {
		case "retries", "redelivered", "repeats", "reconnects", "dead_letters":
			c.counters[name+"/"+n.Node+" "+n.Name] += n.Value
		}
	}
	_ = os.Remove(c.statusFile(name))
}

// requireExact compares the tables with the ledger, in process and by the command.
func (c *chain) requireExact() (l *ledger.Ledger, repeats map[string]int64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l, err := ledger.Read(c.cfg.Simulate.Ledger)
	require.NoError(c.t, err)
	ch := iot.Connect(c.cfg.ClickHouse)
	defer func() { require.NoError(c.t, ch.Close()) }()
	report, err := check.Run(ctx, ch, l)
	require.NoError(c.t, err)
	var text bytes.Buffer
	require.NoError(c.t, report.Write(&text))
	c.t.Logf("%+v\n%s", l.Totals, text.String())
	repeats, err = check.Repeats(ctx, ch)
	require.NoError(c.t, err)
	if !report.Exact() {
		c.keep(ctx, ch)
	}
	require.True(c.t, report.Exact(), "the tables differ from the ledger")
	verdict := c.start("check")
	c.requireEnd(verdict, time.Minute)
	require.True(c.t, strings.HasSuffix(tail(verdict.log), "\nexact"), "iot check says: %s", tail(verdict.log))
	return l, repeats
}

// keep says where things lie that help to find out what went wrong.
func (c *chain) keep(ctx context.Context, ch *clickhouse.Conn) {
	letters, err := ledgerCauses(ctx, ch)
	c.t.Logf("dead letters by cause: %v %v", letters, err)
}
