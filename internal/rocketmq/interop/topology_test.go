package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// upper is a codec that refuses poison.
type upper struct{ text }

func (upper) Decode(b []byte, v *string) error {
	if strings.HasPrefix(string(b), "poison") {
		return fmt.Errorf("%q is poison", b)
	}
	*v = strings.ToUpper(string(b))
	return nil
}

// letter is the codec of dead letters: their bytes.
type letter struct{}

func (letter) ID() string                                          { return "letter" }
func (letter) Decode([]byte, *flow.DeadLetter) error               { return nil }
func (letter) Append(b []byte, l *flow.DeadLetter) ([]byte, error) { return append(b, l.Raw...), nil }

// From one topic to another by the real engine, stopped and started again and again: nothing is missing, nothing comes twice
// after clean stops, poison goes to the dead letters, and the broker knows the end of every queue.
func TestTopologyFromTopicToTopic(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	in, out, dead := topicOf(t, set, 4), topicOf(t, set, 3), topicOf(t, set, 1)
	servers := []string{set.NameServer()}
	c, err := rocketmq.New(rocketmq.Options{NameServers: servers, Timeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	const rounds, each = 3, 5000
	want := map[string]bool{}
	for round := range rounds {
		for q := range 4 {
			var data []byte
			for i := range each {
				body := fmt.Sprintf("dev-%07d %d/%d", i%100, round, q*each+i)
				if i == each/2 {
					body = "poison " + body
				} else {
					want[strings.ToUpper(body)] = true
				}
				data, err = rocketmq.AppendMessage(data, []byte(body), nil)
				require.NoError(t, err)
			}
			r, err := c.Call(t.Context(), set.Broker(), rocketmq.SendBatch("test", in, rocketmq.Queue{Broker: "broker-a", ID: q}, time.Now(), data))
			require.NoError(t, err)
			require.NoError(t, r.Err())
			r.Release()
		}
		topo := flow.New("copy", flow.WithEpochInterval(50*time.Millisecond))
		src := flow.From(topo, "in", rocketmqsource.Source(rocketmqsource.Config{Connection: rocketmqsource.Connection{NameServers: servers}, Topic: in, Group: "g-" + in, PollTimeout: time.Second}, upper{}))
		flow.To(src, "out", rocketmqsink.Sink(rocketmqsink.Config{Connection: rocketmqsink.Connection{NameServers: servers}, Topic: out}, text{}, rocketmqsink.Key(deviceOf)))
		flow.To(topo.DeadLetters(), "dead", rocketmqsink.Sink(rocketmqsink.Config{Connection: rocketmqsink.Connection{NameServers: servers}, Topic: dead}, letter{}))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- topo.Run(ctx) }()
		goal := int64((round + 1) * each)
		if round < rounds-1 {
			goal -= each / 3 // stopped in the middle
		}
		require.Eventually(t, func() bool {
			select {
			case err := <-done:
				t.Errorf("ended: %v", err)
				return true
			default:
			}
			for q := range 4 {
				n, _, err := c.Committed(ctx, set.Broker(), "g-"+in, in, rocketmq.Queue{Broker: "broker-a", ID: q})
				if err != nil || n < goal {
					return false
				}
			}
			return true
		}, 60*time.Second, 20*time.Millisecond)
		stop()
		require.NoError(t, <-done)
	}
	got := map[string]int{}
	require.Eventually(t, func() bool {
		clear(got)
		for q := range 3 {
			bodies(t, c, set.Broker(), out, q, func(b string) { got[b]++ })
		}
		return len(got) >= len(want)
	}, 30*time.Second, 100*time.Millisecond)
	require.Equal(t, len(want), len(got))
	for b, n := range got {
		require.True(t, want[b], b)
		require.Equal(t, 1, n, "%s after clean stops", b)
	}
	var poison []string
	bodies(t, c, set.Broker(), dead, 0, func(b string) { poison = append(poison, b) })
	require.Equal(t, rounds*4, len(poison))
	require.Contains(t, poison[0], "poison dev-")
}

func bodies(t *testing.T, c *rocketmq.Client, addr, topic string, queue int, f func(string)) {
	q := rocketmq.Queue{Broker: "broker-a", ID: queue}
	end, err := c.MaxOffset(t.Context(), addr, topic, q)
	require.NoError(t, err)
	for at := int64(0); at < end; {
		r, err := c.Call(t.Context(), addr, rocketmq.Pull{Group: "look", Topic: topic, Queue: q, Offset: at, Max: 1000}.Request())
		require.NoError(t, err)
		require.NoError(t, r.Err())
		p, err := r.Pulled()
		require.NoError(t, err)
		var m rocketmq.Message
		for msgs := rocketmq.NewMessages(r.Body); msgs.More(); {
			require.NoError(t, msgs.Next(&m))
			f(string(m.Body))
		}
		at = p.Next
		r.Release()
	}
}
