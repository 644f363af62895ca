package iot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/simulate"
)

const patience = 30 * time.Second

// plant is the whole path with alarms, on real servers, under names of its own.
type plant struct {
	t      *testing.T
	cfg    iot.Config
	client paho.Client
	begin  time.Time
	seq    int64

	mu   sync.Mutex
	told []string // topic, command and alarm of each command
}

func newPlant(t *testing.T) *plant {
	set := services.Need(t, services.Mosquitto, services.ClickHouse)
	name := fmt.Sprintf("iot_alarms_%d", os.Getpid())
	cfg := iot.DefaultConfig()
	cfg.MQTT.Broker, cfg.MQTT.Topic, cfg.MQTT.ClientID, cfg.MQTT.Group, cfg.MQTT.Clients = "tcp://"+set.MQTT(), name, name, name, 1
	cfg.ClickHouse.Addr, cfg.ClickHouse.Database = []string{set.ClickHouseNative()}, name
	cfg.Time.OutOfOrderness, cfg.Epoch.Interval = time.Second, 50*time.Millisecond
	cfg.Alarms.Rules, cfg.Alarms.RulesEvery = filepath.Join(t.TempDir(), "rules.yaml"), 20*time.Millisecond
	cfg.Alarms.Patterns, cfg.Alarms.OverheatCommand, cfg.Alarms.SilentAfter = true, "cool-down", time.Minute
	cfg.Alarms.CommandTopic = name + "-commands/{site}/{device}"
	require.NoError(t, cfg.Validate())
	ctx := context.Background()
	require.NoError(t, simulate.OpenSessions(ctx, cfg.MQTT))
	require.NoError(t, iot.CreateTables(ctx, cfg.ClickHouse))
	t.Cleanup(func() {
		require.NoError(t, simulate.DropSessions(ctx, cfg.MQTT))
		require.NoError(t, iot.DropTables(ctx, cfg.ClickHouse))
	})
	p := &plant{t: t, cfg: cfg, begin: time.Now().Add(-time.Hour).Truncate(time.Second).UTC()}
	p.client = paho.NewClient(paho.NewClientOptions().AddBroker(cfg.MQTT.Broker).SetClientID(name + "-devices"))
	p.await(p.client.Connect())
	t.Cleanup(func() { p.client.Disconnect(250) })
	p.await(p.client.Subscribe(name+"-commands/#", 1, func(_ paho.Client, m paho.Message) {
		var c iot.Command
		if err := json.Unmarshal(m.Payload(), &c); err != nil {
			c.Command = err.Error()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, fmt.Sprintf("%s %s: %s", m.Topic()[len(name):], c.Command, c.Alarm))
	}))
	return p
}

func (p *plant) await(token paho.Token) {
	p.t.Helper()
	require.True(p.t, token.WaitTimeout(patience), "the broker does not answer")
	require.NoError(p.t, token.Error())
}

func (p *plant) commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.told...)
}

// send publishes a reading, so often.
func (p *plant) send(device string, second float64, celsius float64, times int) {
	p.t.Helper()
	p.seq++
	text, err := json.Marshal(iot.Reading{
		DeviceID: device, Site: "site-001", Kind: iot.KindReading, TS: p.begin.Add(time.Duration(second * float64(time.Second))).UnixMilli(), Seq: p.seq, Temperature: celsius, Humidity: 50,
	})
	require.NoError(p.t, err)
	for range times {
		p.await(p.client.Publish(p.cfg.MQTT.Topic+"/site-001/"+device, 1, false, text))
	}
}

// rules replaces the file of rules in one step.
func (p *plant) rules(text string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.cfg.Alarms.Rules+".new", []byte(text), 0o600))
	require.NoError(p.t, os.Rename(p.cfg.Alarms.Rules+".new", p.cfg.Alarms.Rules))
}

// rows are the table's rows in words, in order of time; second is since the beginning, and - where the change of rules has set it.
func (p *plant) rows() (rows []string) {
	p.t.Helper()
	ch := iot.Connect(p.cfg.ClickHouse)
	defer func() { require.NoError(p.t, ch.Close()) }()
	require.NoError(p.t, ch.Query(context.Background(), "SELECT device, rule, state, severity, reason, site, command, since, at FROM "+iot.TableAlarms+" FINAL ORDER BY rule, device, since, at, state", func(r driver.Rows) error {
		var device, rule, state, severity, reason, site, command string
		var since, at time.Time
		err := r.Scan(&device, &rule, &state, &severity, &reason, &site, &command, &since, &at)
		when := fmt.Sprint(at.Sub(p.begin).Seconds())
		if reason != "" {
			when = "- (" + reason + ")"
		}
		rows = append(rows, fmt.Sprintf("%s %s %s %s %v..%s %s %s", rule, device, state, severity, since.Sub(p.begin).Seconds(), when, site, command))
		return err
	}))
	return rows
}

func (p *plant) eventually(what string, is func() bool) {
	p.t.Helper()
	require.Eventually(p.t, is, patience, 20*time.Millisecond, what)
}

// TestAlarmsOnServers: readings over MQTT become rows and commands, exactly; rules change while it runs, and a bad file changes nothing.
func TestAlarmsOnServers(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.rules(`rules: [{id: too-hot, when: temperature > 70, clear: temperature < 60, labels: {command: close-valve, clear_command: open-valve}}]`)
	ch := iot.Connect(p.cfg.ClickHouse)
	defer func() { require.NoError(t, ch.Close()) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	top := iot.All(p.cfg, ch, flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.DiscardHandler)))
	running, ended := start(ctx, t, top)
	count := func(name string) (n int64) {
		for _, c := range running.Counters() {
			if c.Name == name && c.Node == "alarms/rules/rules" {
				n += c.Value
			}
		}
		return n
	}

	p.send("clock", 0, 20, 1)
	p.send("a", 0, 65, 1)
	p.send("b", 0, 20, 1)
	p.send("a", 5, 72, 3) // raised once, though it is delivered three times
	p.send("a", 10, 75, 1)
	p.send("a", 15, 74, 1)
	p.eventually("the first command", func() bool { return len(p.commands()) == 1 })

	p.rules("rules: [{id: too-hot, when: temprature > 75}]")
	p.eventually("the bad file is seen", func() bool { return count("rules_file_errors") == 1 })
	p.send("b", 20, 71, 1)
	p.eventually("the old rules are in force", func() bool { return len(p.commands()) == 2 })

	p.rules(`rules: [{id: hotter, when: temperature > 75, severity: critical, labels: {command: shut-down}}]`)
	second := 21.0
	p.eventually("the alarms of the rule that is gone are cleared", func() bool {
		second += 0.001
		p.send("clock", second, 20, 1) // they are when the tasks have something to do
		return len(p.commands()) == 4
	})
	p.send("a", 30, 76, 1)
	p.eventually("the new rule is in force", func() bool { return len(p.commands()) == 5 })
	for _, second := range []float64{60, 110, 125} {
		p.send("clock", second, 20, 1) // nothing else, so that a and b are silent
	}
	p.eventually("the pattern's command", func() bool { return len(p.commands()) == 6 })
	p.send("b", 126, 22, 1)
	p.send("clock", 130, 20, 1)
	want := []string{
		"hotter a raised critical 30..30 site-001 shut-down",
		"overheating a raised critical 0..120 site-001 cool-down",
		"silent a raised warning 30..90  ",
		"silent b raised warning 20..80  ",
		"silent b cleared warning 20..126  ",
		"too-hot a raised warning 5..5 site-001 close-valve",
		"too-hot a cleared warning 5..- (rule removed) site-001 open-valve",
		"too-hot b raised warning 20..20 site-001 close-valve",
		"too-hot b cleared warning 20..- (rule removed) site-001 open-valve",
	}
	p.eventually("all rows", func() bool { return len(p.rows()) >= len(want) })
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, want, p.rows())
	require.ElementsMatch(t, []string{
		"-commands/site-001/a close-valve: too-hot", "-commands/site-001/b close-valve: too-hot", "-commands/site-001/a open-valve: too-hot",
		"-commands/site-001/b open-valve: too-hot", "-commands/site-001/a shut-down: hotter", "-commands/site-001/a cool-down: overheating",
	}, p.commands())
}

// start runs a topology until ctx ends.
func start(ctx context.Context, t *testing.T, top *flow.Topology) (*flow.Running, <-chan error) {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, watermill.NopLogger{})
	require.NoError(t, err)
	running, err := top.AddTo(ctx, router)
	require.NoError(t, err)
	ended, routed := make(chan error, 1), make(chan error, 1)
	go func() { routed <- router.Run(context.WithoutCancel(ctx)) }()
	go func() {
		<-running.Done()
		<-router.Running()
		ended <- errors.Join(running.Err(), router.Close(), <-routed)
	}()
	return running, ended
}
