package rocketmq

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// sendWith sends from, from+1, … with properties of their own.
func (b *bench) sendWith(queue, from, n int, properties func(i int) map[string]string) {
	b.t.Helper()
	var data, props []byte
	var err error
	for i := from; i < from+n; i++ {
		props = props[:0]
		for name, value := range properties(i) {
			props, err = rocketmq.AppendProperty(props, name, value)
			require.NoError(b.t, err)
		}
		data, err = rocketmq.AppendMessage(data, fmt.Append(nil, i), props)
		require.NoError(b.t, err)
	}
	resp, err := b.client.Call(b.t.Context(), b.set.Broker(), rocketmq.SendBatch("test", b.topic, b.queue(queue), time.Now(), data))
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Err())
	resp.Release()
}

// tagged gives every tenth message the tag wanted, and most others one of which the broker cannot tell it by its hash.
func tagged(i int) map[string]string {
	switch {
	case i%10 == 0:
		return map[string]string{"TAGS": "Aa", "n": fmt.Sprint(i)}
	case i%10 == 5:
		return map[string]string{"TAGS": "warning", "n": fmt.Sprint(i)}
	case i%10 == 7:
		return map[string]string{"n": fmt.Sprint(i)}
	}
	return map[string]string{"TAGS": "BB", "n": fmt.Sprint(i)}
}

// Brokers compare hashes of tags only, and "Aa" and "BB" have the same; what is filtered out leaves gaps in the offsets.
func TestOnlyMessagesOfTheTagsAreReadAndPositionsPassTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	const n = 4000
	for i := 0; i < n; i += 1000 {
		b.sendWith(0, i, 1000, tagged)
	}
	b.visible(0, n)
	cfg := b.config()
	cfg.Tags, cfg.Batch = " Aa||warning ", 64
	e := launch(t, cfg, nil)
	end := func(at int64) func(map[string]*queueLog) bool {
		return func(parts map[string]*queueLog) bool {
			l := parts[b.id(0)]
			return l != nil && l.pos.Offset == at && l.lag == 0 && l.idle
		}
	}
	e.until("all read", end(n))
	var want []int
	for i := 0; i < n; i += 5 {
		want = append(want, i)
	}
	e.with(func(parts map[string]*queueLog) {
		l := parts[b.id(0)]
		require.Equal(t, want, l.values)
		for i := 1; i < len(l.lags); i++ {
			require.LessOrEqual(t, l.lags[i], l.lags[i-1], "lag counts what is behind the position, wanted or not")
		}
	})

	// Nothing of it is wanted: the position passes it when the broker's patience with the poll ends.
	b.sendWith(0, n, 300, func(int) map[string]string { return map[string]string{"TAGS": "other"} })
	e.until("passed", end(n+300))
	e.commit()
	require.Zero(t, e.count("lost_by_retention"))
	require.Equal(t, len(want), e.total())
	e.close()

	// A position within a gap is as good as any.
	e = launch(t, cfg, map[string]flow.Position{b.id(0): {Offset: 3993}})
	e.until("all read", end(n+300))
	e.with(func(parts map[string]*queueLog) { require.Equal(t, []int{3995}, parts[b.id(0)].values) })
	e.close()
	e = launch(t, cfg, nil)
	b.sendWith(0, 5000, 1, tagged)
	e.until("read on behind the commit", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 1 })
	e.with(func(parts map[string]*queueLog) { require.Equal(t, []int{5000}, parts[b.id(0)].values) })
}

// A backlog of which nothing is wanted takes many pulls, none of which brings a message.
func TestABacklogOfUnwantedMessagesIsPassed(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	const n = 40_000
	for i := 0; i < n; i += 5000 {
		b.sendWith(0, i, 5000, func(int) map[string]string { return map[string]string{"TAGS": "other"} })
	}
	b.sendWith(0, n, 1, tagged)
	b.visible(0, n+1)
	cfg := b.config()
	cfg.Tags = "Aa"
	e := launch(t, cfg, nil)
	e.until("read", func(parts map[string]*queueLog) bool {
		return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == n+1
	})
	e.with(func(parts map[string]*queueLog) {
		l := parts[b.id(0)]
		require.Equal(t, []int{n}, l.values)
		require.Greater(t, len(l.lags), 1)
		require.Greater(t, l.lags[0], int64(0))
		require.Greater(t, l.busy, 0, "not idle while there may be wanted messages")
	})
	require.Zero(t, e.count("lost_by_retention"))
}

func TestOnlyMessagesThatMeetTheConditionAreRead(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.sendWith(0, 0, 1000, tagged)
	b.visible(0, 1000)
	cfg := b.config()
	cfg.SQL = "n BETWEEN 100 AND 120 AND TAGS IS NOT NULL AND TAGS <> 'BB'"
	e := launch(t, cfg, nil)
	e.until("all read", func(parts map[string]*queueLog) bool {
		return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 1000
	})
	e.with(func(parts map[string]*queueLog) {
		require.Equal(t, []int{100, 105, 110, 115, 120}, parts[b.id(0)].values)
	})
	require.Zero(t, e.count("lost_by_retention"))
	e.close()

	cfg.SQL = "n BETWEEN 100"
	e = launch(t, cfg, nil)
	e.until("stopped", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
	e.with(func(parts map[string]*queueLog) {
		err := parts[b.id(0)].err
		require.False(t, flow.IsTransient(err))
		require.ErrorContains(t, err, "subscription")
		require.ErrorContains(t, err, b.topic)
	})
}

func TestFilterExpressions(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string][]string{"": nil, "*": nil, " * ": nil, "a": {"a"}, "a||b": {"a", "b"}, " a || b c ": {"a", "b c"}} {
		f, err := Config{Tags: tags}.filter()
		require.NoError(t, err, tags)
		require.Equal(t, want, f.tags, tags)
	}
	for _, bad := range []Config{{Tags: "a ||"}, {Tags: "a || *"}, {Tags: "a", SQL: "b = 1"}} {
		_, err := bad.filter()
		require.ErrorContains(t, err, "tags")
	}
	err := (&rocketmq.Response{Code: rocketmq.SystemError, Remark: "The broker does not support consumer to filter message by SQL92"}).Err()
	require.False(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "enablePropertyFilter=true")
}
