package interop

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// local commits even messages and drops odd ones.
type local struct{}

func (local) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	if strings.ContainsAny(string(m.Body[len(m.Body)-1:]), "02468") {
		return primitive.CommitMessageState
	}
	return primitive.RollbackMessageState
}

func (l local) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	return l.ExecuteLocalTransaction(&m.Message)
}

func credentials(c rocketmqsource.Connection) primitive.Credentials {
	return primitive.Credentials{AccessKey: c.AccessKey, SecretKey: string(c.SecretKey)}
}

// The client's transactions, tags and delays, read by our source.
func sourceReadsCommittedMessagesOfTheClientByTag(t *testing.T, set *services.Set, conn rocketmqsource.Connection, topic string) {
	signed := producer.WithCredentials(credentials(conn))
	p := newProducer(t, set, topic, signed)
	tx, err := client.NewTransactionProducer(local{}, signed, producer.WithNameServer([]string{set.NameServer()}), producer.WithInstanceName("tx"+topic),
		producer.WithGroupName("tx-"+topic), producer.WithSendMsgTimeout(20*time.Second), producer.WithQueueSelector(chosen{}))
	require.NoError(t, err)
	require.NoError(t, tx.Start())
	t.Cleanup(func() { require.NoError(t, tx.Shutdown()) })
	for i := range 10 {
		r, err := tx.SendMessageInTransaction(t.Context(), messageTo(topic, 0, fmt.Sprint("tx ", i)).WithTag("alarm"))
		require.NoError(t, err)
		require.Equal(t, primitive.SendOK, r.Status)
	}
	for _, m := range []*primitive.Message{
		messageTo(topic, 0, "other").WithTag("debug"), messageTo(topic, 0, "later").WithTag("warning").WithDelayTimeLevel(1),
		messageTo(topic, 0, "no tag"), messageTo(topic, 0, "now").WithTag("warning"),
	} {
		_, err := p.SendSync(t.Context(), m)
		require.NoError(t, err)
	}
	got := readWith(t, rocketmqsource.Config{Connection: conn, Topic: topic, Group: "g-" + topic, Tags: "alarm || warning"}, 7).values
	slices.Sort(got)
	require.Equal(t, []string{"later", "now", "tx 0", "tx 2", "tx 4", "tx 6", "tx 8"}, got)
}

// readWith reads until there are as many values as wanted.
func readWith(t *testing.T, cfg rocketmqsource.Config, want int) *intake {
	t.Helper()
	cfg.PollTimeout = time.Second
	s := rocketmqsource.Source(cfg, text{})
	in := &intake{want: want, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Open(ctx, flow.SourceRuntime{Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler), Count: func(string, int64) {}}))
	var all sync.WaitGroup
	all.Go(func() { _ = s.Run(ctx, in) })
	in.read = func(parts []flow.Partition) {
		all.Go(func() { _ = s.Read(ctx, parts[0], flow.Position{}, flow.NewIntake[string](in)) })
	}
	select {
	case <-in.done:
	case <-time.After(30 * time.Second):
		t.Error("not read")
	}
	cancel()
	all.Wait()
	require.NoError(t, s.Close(t.Context()))
	return in
}

// Our transactions, tags and properties, read by the client with a condition.
func clientReadsTransactionsOfTheSinkByACondition(t *testing.T, conn rocketmqsink.Connection, topic string) {
	s := rocketmqsink.Sink(rocketmqsink.Config{
		Connection: conn, Topic: topic, Group: "p-" + topic, Transactional: true,
	}, text{}, rocketmqsink.Key(deviceOf), rocketmqsink.Tag(func(string) string { return "reading" }),
		rocketmqsink.Property("n", func(s string) string { return s[12:] }))
	require.NoError(t, s.Open(t.Context(), sinkRuntime()))
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	var batch []flow.Record[string]
	for i := range 20 {
		batch = append(batch, flow.Record[string]{Value: fmt.Sprintf("dev-0000001 %d", i)})
	}
	require.NoError(t, w.Write(t.Context(), batch))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))

	c, err := consumer.NewPullConsumer(consumer.WithNameServer(conn.NameServers), consumer.WithCredentials(credentials(conn)),
		consumer.WithGroupName("g-"+topic),
		consumer.WithInstance(topic), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	require.NoError(t, err)
	require.NoError(t, c.Subscribe(topic, consumer.MessageSelector{Type: consumer.SQL92, Expression: "n >= 15 AND TAGS = 'reading'"}))
	require.NoError(t, c.Start())
	t.Cleanup(func() { require.NoError(t, c.Shutdown()) })
	var got []string
	require.Eventually(t, func() bool {
		r, err := c.PullFrom(t.Context(), &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: 0}, 0, 100)
		if err != nil {
			return false
		}
		got = nil
		for _, m := range r.GetMessageExts() {
			got = append(got, string(m.Body))
		}
		return len(got) > 0
	}, 30*time.Second, 100*time.Millisecond)
	require.Equal(t, []string{"dev-0000001 15", "dev-0000001 16", "dev-0000001 17", "dev-0000001 18", "dev-0000001 19"}, got)
}
