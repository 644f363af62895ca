package mqtt_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

// What brokers and their protocol do that nobody expects; docs/traps.md says where each is dealt with.

// A broker confirms what its queue for an absent client cannot hold, and drops it. No client can see that it did: the settings
// of the broker are the only cure.
func TestTrapBrokerDropsWhatItsQueueCannotHold(t *testing.T) {
	const queued, sent = 1000, 3000
	s := services.Isolated(t, services.Options{MosquittoInflight: 20, MosquittoQueued: queued}, services.Mosquitto)
	e := start(t, configFor(s.MQTT(), "d"))
	e.awaitIdle()
	e.stop()
	newPublisher(t, s.MQTT()).publish("d", 0, sent) // confirmed, every one
	again := start(t, configFor(s.MQTT(), "d"))
	again.await(queued)
	again.awaitIdle()
	require.Less(t, len(again.values()), sent, "a broker that drops nothing needs no warning in the documentation")
}

// With QoS 2 a broker sends again what was not acked when the connection broke, like with QoS 1: "exactly once" ends at the client.
// What this process still holds is not handed on twice.
func TestTrapQoS2ComesAgain(t *testing.T) {
	set := services.Need(t, services.Mosquitto)
	network := faults.New(t, set.MQTT())
	cfg := configFor(network.Addr(), "trap/qos2")
	cfg.QoS, cfg.ClientID = new(byte(2)), "trap-qos2"
	forget(t, set.MQTT(), cfg.ClientID)
	e := start(t, cfg, manual)
	e.awaitIdle()
	p := connect(t, set.MQTT(), cfg.ClientID+"-publisher", true)
	t.Cleanup(func() { p.Disconnect(250) })
	for i := range 10 {
		confirmed(t, p.Publish(cfg.Topics[0], 2, false, strconv.Itoa(i)))
	}
	inOrder(t, 10, e.await(10))
	network.Cut()
	e.eventually(func() bool { return !e.part(cfg.ClientID).isIdle() }, "noticed", func() any { return e.log })
	network.Restore()
	e.eventually(func() bool { return e.count("redelivered") == 10 }, "sent again", func() any { return e.count("redelivered") })
	e.awaitIdle()
	inOrder(t, 10, e.values())
	e.part(cfg.ClientID).commit(10)
	e.stop()
	last := start(t, cfg)
	confirmed(t, p.Publish(cfg.Topics[0], 2, false, "10"))
	require.Equal(t, []int{10}, last.await(1))
}

// A member of a shared subscription that is away keeps its share of the messages, and the others do not get it: nothing is lost, but
// it waits until the member is back.
func TestTrapAwayMemberKeepsItsShare(t *testing.T) {
	s := mosquitto(t, 1000)
	one, two := configFor(s.MQTT(), "d"), configFor(s.MQTT(), "d")
	one.ShareGroup, one.ClientID = "group", "one"
	two.ShareGroup, two.ClientID = "group", "two"
	here, away := start(t, one), start(t, two)
	here.awaitIdle()
	away.awaitIdle()
	away.stop()
	newPublisher(t, s.MQTT()).publish("d", 0, 100)
	here.await(1)
	here.awaitIdle()
	back := start(t, two)
	here.eventually(func() bool { return len(here.values())+len(back.values()) >= 100 }, "all", func() any { return len(here.values()) })
	once(t, 100, append(here.values(), back.values()...))
	require.NotEmpty(t, back.values())
}

// For topic filters that overlap a broker may send a message once, as this one does, or once for each. However often it comes, all
// of it is acked.
func TestTrapOverlappingFilters(t *testing.T) {
	s := mosquitto(t, 1000)
	e := start(t, configFor(s.MQTT(), "d/#"), manual)
	e.awaitIdle()
	e.stop()
	cfg := configFor(s.MQTT(), "d/#")
	cfg.Topics = []string{"d/#", "d/+"}
	e = start(t, cfg, manual)
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	p.publish("d/1", 0, 5)
	e.awaitAll(5)
	complete(t, 5, e.values())
	e.part(id).commit(e.part(id).seen())
	e.stop()
	again := start(t, cfg)
	p.publish("d/1", 5, 6)
	again.await(1)
	require.NotContains(t, again.values(), 0, "what was acked does not come again")
}
