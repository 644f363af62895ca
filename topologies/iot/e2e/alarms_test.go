package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/simulate"
)

// TestE2EKillAlarms: iot all is killed with SIGKILL in the middle of a pattern that spans two minutes of event time, each time after another
// one of its events: once when their epoch is durable, and once when it cannot be, since ClickHouse is away. The alarm comes, once, as a
// row and as a command, after the last restart; and it does not come again after one more.
func TestE2EKillAlarms(t *testing.T) {
	k := newAlarmed(t)
	box := k.run()
	k.send("a", 0, 65)
	k.send("a", 10, 72)
	k.durable(2)
	box.kill()

	box = k.run()
	k.eventually("the process is up", func() bool { // it has made its tables
		_, err := os.Stat(k.statusFile("all"))
		return err == nil
	})
	k.network.Cut()
	k.send("b", 15, 99) // no sensor measures that: it is a row of its own, which keeps the epoch open
	k.send("a", 20, 74)
	k.eventually("the third reading is taken", func() bool { s := k.status("all"); return s.Read >= 2 && s.Unacked >= 2 })
	box.kill()
	k.network.Restore()

	box = k.run()
	k.send("a", 30, 73)
	k.durable(3) // both come again, and the new one
	require.Empty(t, k.alarms())
	box.kill()

	box = k.run()
	k.send("clock", 125, 20)
	k.eventually("the alarm", func() bool { return len(k.alarms()) > 0 })
	k.durable(1)
	box.kill()

	box = k.run()
	k.send("clock", 240, 20)
	k.durable(1)
	box.kill()
	want := []string{"overheating/a/" + k.begin.Format(time.RFC3339) + " raised 74"}
	require.Equal(t, want, k.alarms())
	require.Equal(t, []string{"site-001/a cool-down " + want[0][:len(want[0])-len(" raised 74")] + "/raised"}, k.commands())
}

// alarmed is the path as one process, with alarms by patterns, on the shared servers.
type alarmed struct {
	*chain
	network *faults.Proxy // before ClickHouse
	client  paho.Client
	begin   time.Time
	seq     int64

	mu   sync.Mutex
	told []string
}

func newAlarmed(t *testing.T) *alarmed {
	bin, err := build()
	require.NoError(t, err)
	set := services.Need(t, services.Mosquitto, services.ClickHouse)
	name := fmt.Sprintf("e2e_alarms_%d", os.Getpid())
	k := &alarmed{
		chain:   &chain{t: t, set: set, dir: t.TempDir(), bin: bin, environ: os.Environ(), counters: map[string]int64{}},
		network: faults.New(t, set.ClickHouseNative()), begin: time.Now().Add(-time.Hour).Truncate(time.Second).UTC(),
	}
	for _, s := range []string{
		"MQTT_BROKER=tcp://" + set.MQTT(), "MQTT_TOPIC=" + name, "MQTT_CLIENT_ID=" + name, "MQTT_GROUP=" + name, "MQTT_CLIENTS=1",
		"CLICKHOUSE_ADDR=" + k.network.Addr(), "CLICKHOUSE_DATABASE=" + name, "STORE_DIR=" + filepath.Join(k.dir, "state"), "TIME_OUT_OF_ORDERNESS=1s",
		"ALARMS_PATTERNS=true", "ALARMS_OVERHEAT_COMMAND=cool-down", "ALARMS_COMMAND_TOPIC=" + name + "-commands/{site}/{device}",
	} {
		k.environ = append(k.environ, iot.EnvPrefix+s)
	}
	k.cfg, err = iot.LoadConfig("", k.environ)
	require.NoError(t, err)
	ctx := context.Background()
	require.NoError(t, simulate.OpenSessions(ctx, k.cfg.MQTT))
	require.NoError(t, iot.CreateTables(ctx, k.cfg.ClickHouse))
	t.Cleanup(func() {
		require.NoError(t, simulate.DropSessions(ctx, k.cfg.MQTT))
		require.NoError(t, iot.DropTables(ctx, k.cfg.ClickHouse))
	})
	k.client = paho.NewClient(paho.NewClientOptions().AddBroker(k.cfg.MQTT.Broker).SetClientID(name + "-devices"))
	k.await(k.client.Connect())
	t.Cleanup(func() { k.client.Disconnect(250) })
	topic := name + "-commands/"
	k.await(k.client.Subscribe(topic+"#", 1, func(_ paho.Client, m paho.Message) {
		var c iot.Command
		if err := json.Unmarshal(m.Payload(), &c); err != nil {
			c.Command = err.Error()
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.told = append(k.told, m.Topic()[len(topic):]+" "+c.Command+" "+c.ID)
	}))
	return k
}

// run starts the process on what its predecessor has left.
func (k *alarmed) run() *process {
	require.NoError(k.t, os.RemoveAll(k.statusFile("all")))
	return k.start("all", "-status", k.statusFile("all"))
}

func (k *alarmed) await(token paho.Token) {
	k.t.Helper()
	require.True(k.t, token.WaitTimeout(30*time.Second), "the broker does not answer")
	require.NoError(k.t, token.Error())
}

func (k *alarmed) send(device string, second int, celsius float64) {
	k.t.Helper()
	k.seq++
	text, err := json.Marshal(iot.Reading{
		DeviceID: device, Site: "site-001", Kind: iot.KindReading, TS: k.begin.Add(time.Duration(second) * time.Second).UnixMilli(), Seq: k.seq, Temperature: celsius, Humidity: 50,
	})
	require.NoError(k.t, err)
	k.await(k.client.Publish(k.cfg.MQTT.Topic+"/site-001/"+device, 1, false, text))
}

func (k *alarmed) eventually(what string, is func() bool) {
	k.t.Helper()
	began := time.Now()
	require.Eventually(k.t, is, time.Minute, 20*time.Millisecond, what)
	k.t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// durable waits until the process has read so many readings and they are durable.
func (k *alarmed) durable(read int64) {
	k.t.Helper()
	k.eventually(fmt.Sprintf("%d readings are durable", read), func() bool { s := k.status("all"); return s.Read >= read && s.Unacked == 0 })
}

// alarms are the rows of the table, each as often as it is there.
func (k *alarmed) alarms() (rows []string) {
	k.t.Helper()
	ch := iot.Connect(k.cfg.ClickHouse)
	defer func() { require.NoError(k.t, ch.Close()) }()
	require.NoError(k.t, ch.Query(context.Background(), "SELECT id, state, temperature FROM "+iot.TableAlarms, func(r driver.Rows) error {
		var id, state string
		var celsius float64
		err := r.Scan(&id, &state, &celsius)
		rows = append(rows, fmt.Sprintf("%s %s %v", id, state, celsius))
		return err
	}))
	return rows
}

func (k *alarmed) commands() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string{}, k.told...)
}
