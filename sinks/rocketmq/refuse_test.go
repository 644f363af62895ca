package rocketmq

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// A broker drops an empty property, cuts one at \x01 or \x02, both silently, and answers an empty body with a
// NullPointerException.
func TestWhatTheBrokerWouldSwallowIsRefusedByWrite(t *testing.T) {
	f := newFake(t, 2, nil)
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t", MaxMessageBytes: 1 << 20}, text{}, Key(func(s string) string { return strings.TrimPrefix(s, "key") }))
	w, _ := open(t, s)
	with := func(v string, headers map[string]string) flow.Record[string] {
		return flow.Record[string]{Value: v, Meta: &flow.Meta{Headers: headers}}
	}
	for name, bad := range map[string]flow.Record[string]{
		"empty key":           {Value: "key"},
		"control in key":      {Value: "a\x01b"},
		"empty header":        with("v", map[string]string{"h": ""}),
		"control in header":   with("v", map[string]string{"h": "a\x02b"}),
		"header without name": with("v", map[string]string{"": "x"}),
		"40,000 bytes":        with("v", map[string]string{"h": strings.Repeat("x", 40_000)}),
		"long body":           {Value: strings.Repeat("x", 1<<20)},
	} {
		batch := []flow.Record[string]{{Value: "good"}, bad, {Value: "behind"}}
		err := w.Write(t.Context(), batch)
		var refused *flow.RecordError
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, 1, refused.Index)
		require.False(t, flow.IsTransient(err))
		require.NoError(t, w.Write(t.Context(), batch[2:]))
		blocks, err := w.Seal(t.Context())
		require.NoError(t, err)
		rows := 0
		for _, b := range blocks {
			rows += b.Rows()
		}
		require.Equal(t, 2, rows, name)
	}
	none := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t"}, text{})
	w, _ = open(t, none)
	require.ErrorIs(t, w.Write(t.Context(), records("")), rocketmq.ErrEmptyBody)
}

func TestPropertiesUpToTheLimitAndTheLargestMessageArrive(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 1)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, text{})
	w, _ := open(t, s)
	headers := map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "utf8": "äöü €", "WAIT": "false", "DELAY": "3"}
	headers["fill"] = strings.Repeat("x", rocketmq.MaxProperties-len("fill\x01\x02traceparent\x01\x02utf8\x01\x02")-55-len("äöü €"))
	body := strings.Repeat("y", 4<<20-rocketmq.MaxProperties-22)
	rejects := writeAll(t, s, w, []flow.Record[string]{{Value: "before"}, {Value: body, Meta: &flow.Meta{Headers: headers}}, {Value: "behind"}})
	require.Empty(t, rejects)
	all := read(t, set.NameServer(), topic, 3)
	require.True(t, body == all[1].body)
	for _, name := range []string{"traceparent", "utf8", "fill"} {
		require.True(t, headers[name] == all[1].props[name], name)
	}
	require.NotContains(t, all[1].props, "DELAY", "a header must not delay the message")
}

// A batch above the broker's own limit is refused whole, with code 1 that says "try again" elsewhere; the neighbours of the
// message that is too large must arrive.
func TestAMessageThatOnlyTheBrokerRefusesGoesToTheDeadLettersAlone(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 1)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic, MaxMessageBytes: 8 << 20, BatchBytes: 8 << 20}, text{})
	w, _ := open(t, s)
	long := strings.Repeat("z", 5<<20)
	rejects := writeAll(t, s, w, records("1", "2", long, "3"))
	require.Equal(t, 1, len(rejects))
	require.Equal(t, 2, rejects[0].Row)
	require.True(t, long == string(rejects[0].Record))
	require.ErrorContains(t, rejects[0].Err, "maxMessageSize")
	all := read(t, set.NameServer(), topic, 3)
	require.Equal(t, "1 2 3", all[0].body+" "+all[1].body+" "+all[2].body)
}

func TestAMissingTopicIsAPermanentErrorWithTheCure(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: "no-such-topic"}, text{})
	err := s.Open(t.Context(), runtime(t, &counters{}))
	require.False(t, flow.IsTransient(err))
	require.True(t, rocketmq.IsCode(err, rocketmq.TopicNotExist))
	require.ErrorContains(t, err, "mqadmin updateTopic")
	require.NoError(t, s.Close(t.Context()))
}

func TestUnreachableNameServersAreATransientErrorOfOpen(t *testing.T) {
	s := Sink(Config{Connection: Connection{NameServers: []string{"127.0.0.1:1"}}, Topic: "t"}, text{})
	err := s.Open(t.Context(), runtime(t, &counters{}))
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.NoError(t, s.Close(t.Context()))
}

// The order of queues changes when brokers come or go: with one of them down keys would move.
func TestTheStartWaitsForAllQueues(t *testing.T) {
	f := newFake(t, 2, nil)
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t", Queues: 4}, text{})
	err := s.Open(t.Context(), runtime(t, &counters{}))
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "shows 2 of 4 queues")
	f.mu.Lock()
	f.queues = 4
	f.mu.Unlock()
	require.NoError(t, s.Open(t.Context(), runtime(t, &counters{})))
	require.NoError(t, s.Close(t.Context()))
}

func TestWrongConfigurationListsEverything(t *testing.T) {
	s := Sink(Config{Queues: -1, BatchBytes: 10 << 20, Connection: Connection{SecretKey: "s3cr3t"}}, text{})
	err := s.Open(t.Context(), flow.SinkRuntime{})
	for _, part := range []string{"topic", "queues is negative", "batch_bytes", "name_servers"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NoError(t, s.Close(t.Context()))
}
