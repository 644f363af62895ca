package mqtt

import (
	"context"
	"strings"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func inBoth(t *testing.T, f func(t *testing.T, p Protocol)) {
	for name, p := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

func withQoS(c Config, p Protocol, qos byte) Config {
	c.Protocol, c.QoS = p, &qos
	return c
}

func TestDeliverWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		for qos := range byte(3) {
			f := newFake(t, nil)
			o := open(t, Sink(withQoS(f.config(), p, qos), topicOf, readings{}))
			a, b := o.block(numbersOf("a", 1, 1500)...), o.block(numbersOf("a", 1501, 3000)...)
			rejects, retries := o.deliver(a, b)
			require.Empty(t, rejects)
			require.Zero(t, retries)
			if qos == 0 {
				eventually(t, func() bool { return len(f.got()) == 3000 }, "all there", o.log)
			}
			require.Equal(t, texts(1, 3000), f.got(), "QoS %d", qos)
			_, retries = o.deliver(a, b)
			require.Zero(t, retries)
			require.Len(t, f.got(), 3000, "delivered blocks are not published again")
		}
	})
}

// The connection breaks in the middle: what was confirmed is not published again, the rest is, in order.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		f := newFake(t, func(n int, _ byte, _ seen) verdict { return verdict{cut: n == 60} })
		cfg := withQoS(f.config(), p, 1)
		cfg.Inflight = 40
		o := open(t, Sink(cfg, "t", readings{}))
		_, retries := o.deliver(o.block(numbersOf("a", 1, 100)...))
		require.Positive(t, retries)
		got := f.got()
		require.Equal(t, texts(1, 61), got[:61])
		again := got[61]
		require.Contains(t, texts(22, 61), again)
		require.Equal(t, texts(number(t, again), 100), got[61:])
		require.EqualValues(t, 1, o.count("reconnects"))
		for _, s := range f.all() {
			require.False(t, s.dup, "a clean session knows no repeats")
		}
	})
}

func number(t *testing.T, s string) int {
	var r reading
	require.NoError(t, readings{}.Decode([]byte(s), &r))
	return r.n
}

// QoS 2 goes on where it was: the broker gets no message twice, wherever the connection breaks.
func TestExactlyOnceOverBrokenConnections(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		cuts := map[int]verdict{
			30: {cut: true}, 70: {cut: true, forget: true}, 71: {cut: true}, 120: {cut: true}, 121: {cut: true}, 300: {cut: true}, 301: {cut: true, forget: true},
		}
		f := newFake(t, func(n int, _ byte, _ seen) verdict { return cuts[n] })
		cfg := withQoS(f.config(), p, 2)
		cfg.Inflight = 20
		o := open(t, Sink(cfg, "t", readings{}))
		o.deliver(o.block(numbersOf("a", 1, 120)...), o.block(numbersOf("a", 121, 200)...))
		require.Equal(t, texts(1, 200), f.got())
		require.EqualValues(t, len(cuts), o.count("reconnects"))
		require.Positive(t, o.count("resent"))
	})
}

// A message whose PUBREC has come is never published again, only released.
func TestReleasedMessagesAreNotPublishedAgain(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		f := newFake(t, func(n int, kind byte, _ seen) verdict { return verdict{cut: kind == 'r' && n == 1} })
		o := open(t, Sink(withQoS(f.config(), p, 2), "t", readings{}))
		first := len(f.connections()) - 1
		o.deliver(o.block(reading{"a", 1}))
		require.Equal(t, []string{"p1 1", "r1"}, on(f.all(), first))
		require.Equal(t, []string{"r1"}, on(f.all(), first+1))
	})
}

// A process must not use ids that the session of an earlier one may still hold: the broker would take new messages for repeats.
func TestFirstConnectionIsClean(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	o := open(t, Sink(withQoS(f.config(), V311, 2), "t", readings{}))
	o.deliver(o.block(reading{"a", 1}))
	c := f.connections()
	require.Len(t, c, 2)
	require.True(t, c[0].clean)
	require.False(t, c[1].clean)

	f = newFake(t, nil)
	o = open(t, Sink(withQoS(f.config(), V5, 2), "t", readings{}))
	f.cut()
	eventually(t, func() bool { return o.count("reconnects") == 1 }, "reconnected", o.log)
	c = f.connections()
	require.Len(t, c, 2)
	require.True(t, c[0].clean)
	require.EqualValues(t, 3600, c[0].expiry)
	require.False(t, c[1].clean)

	f = newFake(t, nil)
	o = open(t, Sink(withQoS(f.config(), V311, 1), "t", readings{}))
	f.cut()
	eventually(t, func() bool { return o.count("reconnects") == 1 }, "reconnected", o.log)
	for _, c := range f.connections() {
		require.True(t, c.clean, "QoS 1 needs no session")
	}
}

// The broker has lost the session: everything unconfirmed is published as new.
func TestLostSession(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		f := newFake(t, func(n int, _ byte, _ seen) verdict { return verdict{cut: n == 9, silent: n < 9} })
		f.session = func(int, bool) bool { return false }
		o := open(t, Sink(withQoS(f.config(), p, 2), "t", readings{}))
		o.deliver(o.block(numbersOf("a", 1, 20)...))
		require.Equal(t, append(texts(1, 10), texts(1, 20)...), f.got())
		for _, s := range f.all() {
			require.False(t, s.dup)
		}
	})
}

// Trap: a client that accepts a QoS 0 message while it has no connection loses it without a word.
func TestQoS0WithoutConnection(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, p Protocol) {
		f := newFake(t, nil)
		cfg := withQoS(f.config(), p, 0)
		cfg.ConnectTimeout = 100 * time.Millisecond
		o := open(t, Sink(cfg, "t", readings{}))
		require.NoError(t, f.l.Close())
		f.cut()
		eventually(t, func() bool { return o.log.lines("connection lost") == 1 }, "noticed", o.log)
		b := o.block(numbersOf("a", 1, 3)...)
		_, err := o.sink.Deliver(t.Context(), []flow.Block{b})
		require.True(t, flow.IsTransient(err))
		require.ErrorContains(t, err, "not connected to tcp://")
		require.Equal(t, 3, b.(*block).left)
		f.l, err = newListener(f.l.Addr().String())
		require.NoError(t, err)
		f.wg.Go(f.serve)
		o.deliver(b)
		eventually(t, func() bool { return len(f.got()) == 3 }, "published", o.log)
	})
}

// A message that the network did not take within the time may have arrived or not: it is sent again.
func TestWriteTimeoutIsAmbiguous(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	f := newFake(t, func(n int, _ byte, _ seen) verdict {
		if n == 2 {
			<-hang
		}
		return verdict{cut: n == 2}
	})
	cfg := withQoS(f.config(), V311, 1)
	cfg.WriteTimeout, cfg.MaxPacketBytes = 100*time.Millisecond, 32<<20
	o := open(t, Sink(cfg, "t", text{}))
	large := strings.Repeat("x", 8<<20)
	b := o.block("1", "2", "3", large)
	_, err := o.sink.Deliver(t.Context(), []flow.Block{b})
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "sent again")
	require.ErrorContains(t, err, "timeout")
	close(hang)
	o.deliver(b)
	got := f.got()
	require.Equal(t, []string{"1", "2", "3"}, got[:3])
	require.Equal(t, large, got[len(got)-1])
	require.Contains(t, got[3:len(got)-1], "3")
}

// text is a codec that writes strings as they are.
type text struct{}

func (text) ID() string                                 { return "text" }
func (text) Decode(b []byte, v *string) error           { *v = string(b); return nil }
func (text) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }

// A broker that is there and confirms nothing is given up.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(n int, _ byte, _ seen) verdict { return verdict{silent: n == 1 || n == 2} })
	cfg := withQoS(f.config(), V5, 1)
	cfg.AckTimeout = 100 * time.Millisecond
	o := open(t, Sink(cfg, "t", readings{}))
	_, retries := o.deliver(o.block(numbersOf("a", 1, 3)...))
	require.Positive(t, retries)
	require.Contains(t, o.log.String(), "confirmed nothing for 100ms")
	require.Equal(t, []string{"1", "2", "3", "2", "3"}, f.got())
}

// What a broker of MQTT 5 refuses for good is rejected; what it refuses for now is sent again.
func TestReasonCodes(t *testing.T) {
	t.Parallel()
	for qos := byte(1); qos <= 2; qos++ {
		busy := 0
		f := newFake(t, func(_ int, kind byte, p seen) verdict {
			switch {
			case kind != 'p':
				return verdict{}
			case p.payload == "3":
				return verdict{code: 0x87, reason: "not your topic"}
			case p.payload == "5":
				return verdict{code: 0x90}
			case p.payload == "7" && busy < 2:
				busy++
				return verdict{code: 0x97}
			case p.payload == "8":
				return verdict{code: 0x10}
			}
			return verdict{}
		})
		o := open(t, Sink(withQoS(f.config(), V5, qos), "t", readings{}))
		first, second := o.block(numbersOf("a", 1, 4)...), o.block(numbersOf("a", 5, 10)...)
		rejects, retries := o.deliver(first, second)
		require.Equal(t, 2, retries)
		require.Len(t, rejects, 2)
		require.Equal(t, flow.Reject{Block: 0, Row: 2, Err: rejects[0].Err, Record: []byte("3"), Time: 3}, rejects[0])
		require.ErrorContains(t, rejects[0].Err, `topic "t" with code 0x87, not authorized: not your topic`)
		require.Equal(t, flow.Reject{Block: 1, Row: 0, Err: rejects[1].Err, Record: []byte("5"), Time: 1}, rejects[1])
		require.ElementsMatch(t, []string{"1", "2", "4", "6", "7", "8", "9", "10"}, f.got())
		if qos == 1 {
			require.EqualValues(t, 1, o.count("no_subscribers"))
		}
	}
}

func TestBrokersLimitsAreKept(t *testing.T) {
	t.Parallel()
	most, held, mostHeld := make(chan struct{}), 0, 0
	f := newFake(t, func(n int, _ byte, _ seen) verdict {
		if n < 5 {
			held++
			mostHeld = max(mostHeld, held)
			if held == 5 {
				close(most)
			}
			return verdict{silent: true}
		}
		return verdict{}
	})
	f.props = &paho5.Properties{ReceiveMaximum: new(uint16(5)), MaximumPacketSize: new(uint32(64))}
	cfg := withQoS(f.config(), V5, 1)
	o := open(t, Sink(cfg, "t", text{}))
	large := strings.Repeat("x", 60)
	b := o.block("1", large, "2", "3", "4", "5", "6")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-most; cancel() }()
	_, err := o.sink.Deliver(ctx, []flow.Block{b})
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, f.got(), 5, "Receive Maximum")
	f.cut()
	rejects, _ := o.deliver(b)
	require.Len(t, rejects, 1)
	require.Equal(t, 1, rejects[0].Row)
	require.Equal(t, large, string(rejects[0].Record))
	require.ErrorContains(t, rejects[0].Err, "more than broker tcp://")

	f = newFake(t, nil)
	f.props = &paho5.Properties{MaximumQOS: new(byte(1)), RetainAvailable: new(byte(0))}
	s := Sink(withQoS(f.config(), V5, 2), "t", text{})
	require.ErrorContains(t, s.Open(t.Context(), flow.SinkRuntime{}), "takes QoS 1 at most: set qos to it")
	cfg = withQoS(f.config(), V5, 1)
	cfg.Retained = true
	require.ErrorContains(t, Sink(cfg, "t", text{}).Open(t.Context(), flow.SinkRuntime{}), "set retained to false")
}

// A connection that breaks over the same message each time gets a warning that names it.
func TestPoisonIsNamed(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(_ int, _ byte, p seen) verdict { return verdict{cut: strings.HasPrefix(p.payload, "poison")} })
	o := open(t, Sink(f.config(), "devices/7", text{}))
	b := o.block("1", "poison pill")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for o.log.lines("set max_packet_bytes") == 0 {
		_, err := o.sink.Deliver(ctx, []flow.Block{b})
		require.True(t, flow.IsTransient(err), o.log)
	}
	require.Contains(t, o.log.String(), `11 bytes for topic \"devices/7\"`)
}

// A process that has died leaves nothing behind in its successor's blocks.
func TestBlocksOfAnOutbox(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	o := open(t, Sink(withQoS(f.config(), V5, 1), topicOf, readings{}))
	b := o.block(numbersOf("a", 1, 50)...)
	data, err := b.AppendBinary([]byte("before"))
	require.NoError(t, err)
	again, err := o.sink.DecodeBlock(data[len("before"):])
	require.NoError(t, err)
	require.Equal(t, b.Rows(), again.Rows())
	o.deliver(again)
	require.Equal(t, texts(1, 50), f.got())
}
