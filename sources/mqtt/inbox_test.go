package mqtt

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// counter is a driver that counts acks.
type counter struct {
	driver
	acks int
}

func (c *counter) ack(messages []*message) []*message {
	c.acks += len(messages)
	return nil
}

func (c *counter) ackNow(*message) { c.acks++ }

// first takes the first byte of a payload.
type first struct{}

func (first) Decode(data []byte, v *int) error        { *v = int(data[0]); return nil }
func (first) Append(b []byte, v *int) ([]byte, error) { return append(b, byte(*v)), nil }
func (first) ID() string                              { return "first" }

// intake counts what is emitted and acks it at once.
type intake struct {
	inbox *inbox
	buf   []flow.Record[int]
	n     int
}

func (k *intake) Buffer() []flow.Record[int] { return k.buf[:0] }

func (k *intake) Emit(_ context.Context, batch []flow.Record[int], upTo flow.Position) error {
	k.n += len(batch)
	k.inbox.ack(upTo.Offset)
	return nil
}

func (k *intake) Reject([]byte, error, flow.Position) {}
func (k *intake) Reference(time.Time)                 {}
func (k *intake) Idle()                               {}
func (k *intake) Busy()                               {}
func (k *intake) Lag(int64)                           {}
func (k *intake) Window(int)                          {}

// BenchmarkMessage is what the source itself adds to a message: inbox, batch, bookkeeping of the ack; without client and network.
func BenchmarkMessage(b *testing.B) {
	box := newInbox(flow.SystemClock(), Config{}.withDefaults("", ""))
	l, acked := newLink(), &counter{}
	l.driver = acked
	box.begin(l)
	box.subscribed(l)
	r := &reader[int]{id: "c", codec: first{}, count: func(string, int64) {}, inbox: box}
	k := &intake{inbox: box, buf: make([]flow.Record[int], 0, flow.MaxBatch)}
	in := flow.NewIntake[int](k)
	const batch = 256
	arrivals := make([]arrival, batch)
	for i := range arrivals {
		arrivals[i] = arrival{topic: "d", id: uint16(i + 1), qos: 1, payload: bytes.Repeat([]byte("x"), 200)}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		box.receive(l, arrivals[n%batch])
		if n++; n%batch == 0 {
			r.held = box.take(r.held, r.last, flow.MaxBatch)
			r.last = r.held[len(r.held)-1].seq
			require.NoError(b, r.emit(b.Context(), in))
		}
	}
	require.Equal(b, k.n, acked.acks)
}

// The same bytes under the same id are a repeat only with the broker's word for it, and only once.
func TestRepeats(t *testing.T) {
	message := func(id uint16, dup bool, payload string) arrival {
		return arrival{topic: "d", id: id, qos: 1, duplicate: dup, payload: []byte(payload)}
	}
	box := newInbox(flow.SystemClock(), Config{}.withDefaults("", ""))
	acked := &counter{}
	old, l := newLink(), newLink()
	old.driver, l.driver = acked, acked
	box.begin(old)
	for id := range uint16(4) {
		box.receive(old, message(id+1, false, "same"))
	}
	require.Len(t, box.take(nil, 0, 10), 4)
	box.end(old)
	box.receive(old, message(9, false, "too late"))
	box.ack(1) // without a connection
	require.Zero(t, acked.acks)

	box.begin(l)
	box.receive(l, message(1, true, "same")) // durable by now: acked at once
	require.Equal(t, 1, acked.acks)
	box.receive(l, message(2, true, "same"))  // known
	box.receive(l, message(2, true, "same"))  // a second time is a new message
	box.receive(l, message(3, false, "same")) // the broker says that it is new
	box.receive(l, message(4, true, "other")) // it is another
	require.Len(t, box.take(nil, 4, 10), 3)
	box.ack(7)
	require.Equal(t, 1+1+3, acked.acks) // not those of the old connection
}
