package rocketmq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestReadsEveryQueueInOrderWithStoreTimeAndLag(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 4)
	before := time.Now().Add(-time.Second)
	for q := range 4 {
		b.send(q, numbers(q*10_000, 2500)...)
	}
	cfg := b.config()
	cfg.Meta = true
	e := launch(t, cfg, nil)
	e.until("all read", func(parts map[string]*queueLog) bool {
		n := 0
		for _, l := range parts {
			n += len(l.values)
			if l.lag != 0 || !l.idle {
				return false
			}
		}
		return n == 10_000
	})
	e.with(func(parts map[string]*queueLog) {
		require.Equal(t, 1, len(e.adds), "queues known together are added in one call")
		require.Equal(t, 4, len(parts))
		for q := range 4 {
			l := parts[b.id(q)]
			require.Equal(t, flow.Position{Offset: 2500}, l.pos)
			for i, v := range l.values {
				require.Equal(t, q*10_000+i, v)
				require.Greater(t, l.times[i], flow.TimestampOf(before))
				require.Less(t, l.times[i], flow.TimestampOf(time.Now().Add(time.Second)))
			}
			require.Equal(t, "red", l.metas[7].Headers["color"])
			require.Equal(t, b.id(q), l.metas[7].Partition)
			require.Equal(t, flow.Position{Offset: 8}, l.metas[7].Position)
			require.NotEmpty(t, l.metas[7].Key)
		}
	})
}

func TestUndecodableMessagesAreRejectedWithTheirBytes(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.send(0, "1", "two", "3", "four")
	e := launch(t, b.config(), nil)
	e.until("all read", func(parts map[string]*queueLog) bool {
		return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 4
	})
	e.with(func(parts map[string]*queueLog) {
		l := parts[b.id(0)]
		require.Equal(t, []int{1, 3}, l.values)
		require.Equal(t, []string{"2 two", "4 four"}, l.rejects)
		require.ErrorContains(t, l.causes[0], `"two" is not a number`)
		require.Nil(t, l.metas[0], "no Meta unless asked for")
	})
}

// Clients start a new group at the end; and a broker that has everything in memory answers 0 for a group that it does not know.
func TestStartsAtFirstLastOrTime(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	for name, first := range map[string]int{"default": 0, "first": 0, "last": 999, "time": 100, "later": 999} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, set, 1)
			b.send(0, numbers(0, 100)...)
			b.visible(0, 100)
			var mid time.Time
			require.Eventually(t, func() bool { // stored in milliseconds
				mid = time.Now()
				n, err := b.client.OffsetAt(t.Context(), b.set.Broker(), b.topic, b.queue(0), mid)
				return err == nil && n == 100
			}, 5*time.Second, 5*time.Millisecond)
			b.send(0, numbers(100, 100)...)
			b.visible(0, 200)
			cfg := b.config()
			switch name {
			case "default":
			case "time":
				cfg.From = mid.Format(time.RFC3339Nano)
			case "later":
				cfg.From = time.Now().Add(time.Hour).Format(time.RFC3339Nano)
			default:
				cfg.From = name
			}
			e := launch(t, cfg, nil)
			e.until("begun", func(parts map[string]*queueLog) bool {
				return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 200
			})
			b.send(0, "999")
			e.until("read on", func(parts map[string]*queueLog) bool { return parts[b.id(0)].pos.Offset == 201 })
			e.with(func(parts map[string]*queueLog) { require.Equal(t, first, parts[b.id(0)].values[0]) })
		})
	}
}

// A group that began at the end of an empty queue must not begin at a later end after a restart.
func TestBeginAtTheEndOfAnEmptyQueueIsKept(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	cfg := b.config()
	cfg.From = "last"
	e := launch(t, cfg, nil)
	e.until("pinned", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && !parts[b.id(0)].pos.IsZero() })
	e.commit()
	pinned := e.parts[b.id(0)].pos
	e.close()
	b.send(0, "7")
	b.visible(0, 1)
	for name, resume := range map[string]map[string]flow.Position{"broker's position": nil, "topology's position": {b.id(0): pinned}} {
		e = launch(t, cfg, resume)
		e.until(name, func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 1 })
		e.close()
	}
}

func TestPositionOfTheTopologyGoesBeforeTheBrokers(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.send(0, numbers(0, 50)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 50 })
	require.NoError(t, e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, flow.Position{Offset: 30}))
	e.close()

	e = launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 50 })
	e.with(func(parts map[string]*queueLog) {
		require.Equal(t, flow.Position{Offset: 30}, parts[b.id(0)].part.Committed)
		require.Equal(t, 30, parts[b.id(0)].values[0])
	})
	e.close()

	e = launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 40}})
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 50 })
	e.with(func(parts map[string]*queueLog) { require.Equal(t, 40, parts[b.id(0)].values[0]) })
}
