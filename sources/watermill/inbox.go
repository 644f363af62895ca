package watermill

import (
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// arrival is a message that was taken from the subscriber.
type arrival struct {
	msg *message.Message
	at  time.Time
}

// inbox holds the messages of one partition from their arrival to their ack. waiting become numbered when the reader takes them.
type inbox struct {
	id    string
	ready chan struct{} // something has changed for the reader

	mu      sync.Mutex
	waiting []arrival
	// unacked are the messages numbered first, first+1, …
	unacked []*message.Message
	first   int64
	peak    int                // the most that was ever held
	last    []*message.Message // acked last
}

func newInbox(id string) *inbox {
	return &inbox{id: id, first: 1, ready: make(chan struct{}, 1)}
}

func (b *inbox) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// put adds a message that has arrived.
func (b *inbox) put(m arrival) {
	b.mu.Lock()
	b.waiting = append(b.waiting, m)
	b.peak = max(b.peak, len(b.waiting)+len(b.unacked))
	b.mu.Unlock()
	b.signal()
}

// begin makes numbers go on behind a position.
func (b *inbox) begin(from int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.unacked) == 0 && b.first <= from {
		b.first = from + 1
	}
}

// take moves up to n waiting messages to the unacked ones and appends them to to. from is the number of the first.
func (b *inbox) take(to []arrival, n int) (_ []arrival, from int64, peak int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.waiting))
	from = b.first + int64(len(b.unacked))
	for _, a := range b.waiting[:n] {
		b.unacked = append(b.unacked, a.msg)
	}
	to = append(to, b.waiting[:n]...)
	rest := copy(b.waiting, b.waiting[n:])
	clear(b.waiting[rest:])
	b.waiting = b.waiting[:rest]
	return to, from, b.peak
}

// ack acks the messages up to a number, in order, and returns how many they were.
func (b *inbox) ack(upTo int64) int {
	b.mu.Lock()
	n := int(min(max(upTo-b.first+1, 0), int64(len(b.unacked))))
	b.last = append(b.last[:0], b.unacked[:n]...)
	rest := copy(b.unacked, b.unacked[n:])
	clear(b.unacked[rest:])
	b.unacked = b.unacked[:rest]
	b.first += int64(n)
	last := b.last
	b.mu.Unlock()
	for _, m := range last {
		m.Ack()
	}
	b.signal()
	return n
}

// empty tells whether nothing is held.
func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) == 0 && len(b.unacked) == 0
}

// lastAcked are the messages of the last ack. It is called when no further ack comes.
func (b *inbox) lastAcked() []*message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
