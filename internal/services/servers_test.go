//go:build linux

package services

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

func TestMosquittoPasswords(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{MosquittoUser: "millrace", MosquittoPassword: "right"}, Mosquitto)
	connect := func(user, password string) error {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.MQTT()).SetClientID("passwords-" + user + password).
			SetUsername(user).SetPassword(password).SetAutoReconnect(false))
		token := c.Connect()
		require.True(t, token.WaitTimeout(10*time.Second))
		if token.Error() == nil {
			c.Disconnect(100)
		}
		return token.Error()
	}
	require.NoError(t, connect("millrace", "right"))
	require.ErrorContains(t, connect("millrace", "wrong"), "not Authorized")
	require.ErrorContains(t, connect("", ""), "not Authorized")
}

func TestMosquittoKeepsRetainedMessages(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Mosquitto)
	client := func(id string) mqtt.Client {
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.MQTT()).SetClientID(id))
		token := c.Connect()
		require.True(t, token.WaitTimeout(10*time.Second))
		require.NoError(t, token.Error())
		return c
	}
	c := client("before")
	token := c.Publish("a/b", 1, true, "kept")
	require.True(t, token.WaitTimeout(10*time.Second))
	require.NoError(t, token.Error())
	c.Disconnect(100)
	require.NoError(t, s.Down(t.Context(), Mosquitto))
	require.NoError(t, s.Start(t.Context(), Mosquitto))

	got := make(chan string, 1)
	c = client("after")
	defer c.Disconnect(100)
	require.True(t, c.Subscribe("a/#", 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }).WaitTimeout(10*time.Second))
	select {
	case payload := <-got:
		require.Equal(t, "kept", payload)
	case <-time.After(10 * time.Second):
		t.Fatal("the retained message is gone")
	}
}

func TestClickHouseKeepsDataThroughKill(t *testing.T) {
	t.Parallel()
	disks := filepath.Join(t.TempDir(), "disks.xml")
	require.NoError(t, os.WriteFile(disks, []byte(`<clickhouse><storage_configuration>
		<disks><cold><type>local</type><path>`+t.TempDir()+`/cold/</path></cold></disks>
		<policies><tiered><volumes><hot><disk>default</disk></hot><cold><disk>cold</disk></cold></volumes></tiered></policies>
		</storage_configuration></clickhouse>`), 0o600))
	s := Isolated(t, Options{ClickHouseConfig: disks}, ClickHouse)
	query := func(sql string) string {
		t.Helper()
		answer, err := s.Query(t.Context(), sql)
		require.NoError(t, err)
		return strings.TrimSpace(answer)
	}
	query("CREATE DATABASE other")
	for _, table := range []string{"kept", "other.kept"} {
		query("CREATE TABLE " + table + " (id UInt64) ENGINE = MergeTree ORDER BY id SETTINGS storage_policy = 'tiered'")
	}
	for round := 1; round <= 3; round++ {
		query("INSERT INTO kept SELECT number FROM numbers(1000)")
		query("INSERT INTO other.kept SELECT number FROM numbers(1000)")
		query("ALTER TABLE kept MOVE PARTITION tuple() TO DISK 'cold'")
		require.NoError(t, s.Kill(t.Context(), ClickHouse))
		require.Error(t, s.dial(t.Context(), basePortNative))
		require.Error(t, s.dial(t.Context(), basePortHTTP))
		require.NoError(t, s.Start(t.Context(), ClickHouse))
		want := strconv.Itoa(round * 1000)
		require.Equal(t, want, query("SELECT count() FROM kept"))
		require.Equal(t, want, query("SELECT count() FROM other.kept"))
		require.Equal(t, "cold", query("SELECT DISTINCT disk_name FROM system.parts WHERE table = 'kept' AND database != 'other' AND active"))
	}
	// The logs work again after the kills.
	query("INSERT INTO kept SELECT number FROM numbers(1)")
	query("SYSTEM FLUSH LOGS")
	require.Equal(t, "1", query("SELECT count() FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert'"))
	require.NotEqual(t, "0", query("SELECT count() FROM system.part_log WHERE event_type = 'NewPart' AND table = 'kept'"))

	// In order is quicker than by force: the grace is 30 s.
	began := time.Now()
	require.NoError(t, s.Down(t.Context(), ClickHouse))
	require.Less(t, time.Since(began), 15*time.Second)
	require.NoError(t, s.Up(t.Context(), ClickHouse))
	require.Equal(t, "3001", query("SELECT count() FROM kept"))
}

func TestClickHouseUsers(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, ClickHouse)
	as := func(user, password, sql string) string {
		t.Helper()
		u := url.URL{Scheme: "http", Host: s.ClickHouseHTTP(), Path: "/", RawQuery: url.Values{"query": {sql}}.Encode()}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), nil)
		require.NoError(t, err)
		req.Close = true
		req.Header.Set("X-ClickHouse-User", user)
		req.Header.Set("X-ClickHouse-Key", password)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return strings.TrimSpace(string(body))
	}
	require.Empty(t, as("writer", "secret", "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id"))
	require.Empty(t, as("writer", "secret", "INSERT INTO t VALUES (1)"))
	require.Equal(t, "1", as("reader", "", "SELECT count() FROM t"))
	require.Contains(t, as("reader", "", "INSERT INTO t VALUES (2)"), "Code: 164")
	require.Contains(t, as("writer", "wrong", "SELECT 1"), "AUTHENTICATION_FAILED")
	require.Contains(t, as("nobody", "", "SELECT 1"), "AUTHENTICATION_FAILED")
}

func TestRocketMQKeepsMessagesThroughKill(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{BrokerConf: map[string]string{"autoCreateTopicEnable": "false"}}, RocketBroker)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.Error(t, s.route(ctx, "unknown"))
	require.ErrorContains(t, s.send(ctx, "unknown"), "code 17")

	require.NoError(t, s.CreateTopic(ctx, "kept", 1))
	for range 10 {
		require.NoError(t, s.send(ctx, "kept"))
	}
	require.NoError(t, s.Kill(ctx, RocketBroker))
	require.Error(t, s.dial(ctx, basePortBroker))
	require.NoError(t, s.Start(ctx, RocketBroker))
	require.NoError(t, s.route(ctx, "kept"))
	answer, err := remote(ctx, s.Broker(), 30, map[string]string{"topic": "kept", "queueId": "0"}, nil) // max offset
	require.NoError(t, err)
	require.Equal(t, "10", answer.Ext["offset"])

	// A broker that lost its name server registers with the next one.
	require.NoError(t, s.Kill(ctx, RocketNameSrv))
	require.NoError(t, s.Up(ctx))
	require.NoError(t, s.route(ctx, "kept"))

	require.NoError(t, s.Kill(ctx, RocketBroker))
	require.NoError(t, s.Kill(ctx, RocketNameSrv))
	require.ErrorContains(t, s.Start(ctx, RocketBroker), "start that first")
}

// send sends one message by request 10.
func (s *Set) send(ctx context.Context, topic string) error {
	_, err := remote(ctx, s.Broker(), 10, map[string]string{
		"producerGroup": "test", "topic": topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "1", "queueId": "0",
		"sysFlag": "0", "bornTimestamp": strconv.FormatInt(time.Now().UnixMilli(), 10), "flag": "0", "reconsumeTimes": "0",
		"unitMode": "false", "properties": "",
	}, []byte("message"))
	return err
}

func TestKafkaKeepsItsClusterThroughKill(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Kafka)
	require.NoError(t, s.Kill(t.Context(), Kafka))
	require.Error(t, readyKafka(t.Context(), s))
	require.NoError(t, s.Start(t.Context(), Kafka))
	require.True(t, s.Status()[0].Ready)
}
