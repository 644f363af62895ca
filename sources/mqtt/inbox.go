package mqtt

import (
	"bytes"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// firstWindow is the window assumed at each connect: the smallest default of the common brokers.
const firstWindow = 20

// arrival is a message as it came in.
type arrival struct {
	topic               string
	payload             []byte
	id                  uint16
	qos                 byte
	retained, duplicate bool
	headers             map[string]string
}

// message is one message from its arrival to its ack.
type message struct {
	topic   string
	payload []byte
	headers map[string]string
	at      flow.Timestamp
	// skip: a retained message that nobody wants. It goes through all the same, so that acks keep the order of receipt.
	skip bool
	// needsAck: QoS 1 or 2.
	needsAck bool
	// seq is its place in the partition, 0 while it has not been read.
	seq int64

	id  uint16
	qos byte
	// link is the connection that the message came on last. It and done belong to the inbox's lock.
	link *link
	// done: what came of it is durable, but its connection was gone before the ack.
	done bool
	// orphan: the broker has lost the session it came in, so its id means nothing any more.
	orphan bool
}

// inbox holds the messages of one client: those waiting to be read, those read and not acked, and those that the broker is
// expected to send again after a reconnect.
//
// A broker sends again, under the old packet id and with the DUP flag, whatever was not acked when a connection ended. Acks
// of the old arrivals are void by then. So when such a repeat is the message that the inbox still knows (same id, topic and
// bytes), it is not handed on a second time: it only takes over as the arrival that the ack will answer. Everything else is
// handed on. A broker that crashed and forgot which ids it had given could in theory make a new message look like a repeat;
// it would have to be equal in every byte.
type inbox struct {
	clock        flow.Clock
	patience     time.Duration // how long a full inbox may hold the connection up
	window       int           // 0: estimated
	dropRetained bool

	ready chan struct{} // something changed for the reader
	space chan struct{} // the reader took something

	acking sync.Mutex // held while acks are sent, so that they keep their order

	mu       sync.Mutex
	link     *link // the connection of now, nil between two
	waiting  ring
	read     []*message // in order of seq; read[:acked] are gone
	acked    int
	acks     []*message // scratch of commit
	expected map[uint16]*message
	up       bool // subscribed
	unacked  int  // on this connection
	most     int  // the highest unacked of this connection
	counts   counts
}

// counts are gathered here and reported once per batch.
type counts struct{ redelivered, retained, paused int64 }

func newInbox(clock flow.Clock, cfg Config) *inbox {
	return &inbox{
		clock: clock, patience: cfg.KeepAlive / 3, window: cfg.Window, dropRetained: *cfg.DropRetained,
		expected: map[uint16]*message{},
		ready:    make(chan struct{}, 1), space: make(chan struct{}, 1), waiting: ring{limit: cfg.Buffer},
	}
}

// begin makes l the connection of now, before anything can arrive on it.
func (b *inbox) begin(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.expected
	b.expected = make(map[uint16]*message, len(b.read)-b.acked+b.waiting.n)
	for id, m := range old {
		if m.done {
			b.expected[id] = m
		}
	}
	for _, m := range b.read[b.acked:] {
		b.expect(m)
	}
	for i := range b.waiting.n {
		b.expect(b.waiting.at(i))
	}
	b.link, b.up, b.unacked, b.most = l, false, 0, 0
	wake(b.ready)
}

func (b *inbox) expect(m *message) {
	if m.needsAck && !m.orphan {
		b.expected[m.id] = m
	}
}

// subscribed says that all is well with l.
func (b *inbox) subscribed(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link == l {
		b.up = true
		wake(b.ready)
	}
}

// newSession says that the broker knows nothing of earlier connections: it numbers messages anew and repeats none.
func (b *inbox) newSession() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.expected)
	for _, m := range b.read[b.acked:] {
		m.orphan = m.link != b.link
	}
	for i := range b.waiting.n {
		m := b.waiting.at(i)
		m.orphan = m.link != b.link
	}
}

// end says that l is over. What has arrived stays: the broker may have lost it by now.
func (b *inbox) end(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link == l {
		b.link, b.up = nil, false
		wake(b.ready)
	}
}

// receive is called by the connection's reader for each message, in order. It must not hold it up for long: a connection that
// is not read cannot even answer for its life. The reader wakes who takes the messages when it has no more at hand.
func (b *inbox) receive(l *link, a arrival) {
	b.mu.Lock()
	if b.link != l {
		if l.paused {
			b.counts.paused++
		}
		b.mu.Unlock()
		return // a connection that has ended; the broker sends it again
	}
	if a.duplicate {
		b.counts.redelivered++
	}
	if a.qos > 0 {
		m, repeated := b.repeat(l, a)
		if repeated {
			ackNow := m.done
			if !ackNow {
				b.countUnacked()
			}
			b.mu.Unlock()
			if ackNow {
				l.driver.ackNow(m)
			}
			return
		}
	}
	m := &message{
		topic: a.topic, payload: a.payload, headers: a.headers, at: flow.TimestampOf(b.clock.Now()),
		skip: a.retained && b.dropRetained, needsAck: a.qos > 0, id: a.id, qos: a.qos, link: l,
	}
	if !b.waiting.push(m) && !b.waitForSpace(l, m) {
		// From here on nothing of this connection is taken, so that the order is kept when the broker sends it again.
		if b.link == l {
			b.link, b.up = nil, false
		}
		if l.paused {
			b.counts.paused++
		}
		b.mu.Unlock()
		l.end(errPaused)
		return
	}
	if m.skip {
		b.counts.retained++
	}
	if m.needsAck {
		b.countUnacked()
	}
	b.mu.Unlock()
}

// repeat finds the message that a repeats, and lets a take over.
func (b *inbox) repeat(l *link, a arrival) (*message, bool) {
	m, known := b.expected[a.id]
	if !known {
		return nil, false
	}
	delete(b.expected, a.id) // whatever it is, the id is taken now
	if !a.duplicate || a.topic != m.topic || !bytes.Equal(a.payload, m.payload) {
		return nil, false
	}
	m.link = l
	return m, true
}

func (b *inbox) countUnacked() {
	b.unacked++
	b.most = max(b.most, b.unacked)
}

// waitForSpace waits with b.mu released until m has found a place. It gives up when the reader takes nothing for too long, or
// the connection ends.
func (b *inbox) waitForSpace(l *link, m *message) bool {
	t := b.clock.NewTimer(b.patience)
	defer t.Stop()
	wake(b.ready)
	for {
		b.mu.Unlock()
		over, slow := false, false
		select {
		case <-b.space:
		case <-l.gone:
			over = true
		case <-t.C():
			slow = true
		}
		b.mu.Lock()
		if over || b.link != l {
			return false
		}
		if b.waiting.push(m) {
			return true
		}
		if slow {
			l.paused = true
			return false
		}
	}
}

// take appends the messages that wait, at most limit, and numbers them behind last.
func (b *inbox) take(to []*message, last int64, limit int) []*message {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(to) < limit {
		m := b.waiting.pop()
		if m == nil {
			break
		}
		last++
		m.seq = last
		to = append(to, m)
		if m.needsAck {
			b.read = append(b.read, m)
		}
	}
	if len(to) > 0 {
		wake(b.space)
	}
	return to
}

// ack marks everything up to seq as durable and acks it, in order of receipt, and the messages behind it that nobody wants.
// With 0 it acks those that wait for nothing else.
func (b *inbox) ack(upTo int64) {
	b.acking.Lock()
	defer b.acking.Unlock()
	acks, l := b.commit(upTo)
	if len(acks) == 0 {
		return
	}
	if unsent := l.driver.ack(acks); len(unsent) > 0 {
		b.unsent(l, unsent)
	}
}

// commit takes everything up to seq out of the inbox and returns what is to be acked, and the connection it came on.
func (b *inbox) commit(upTo int64) ([]*message, *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acks = b.acks[:0]
	for b.acked < len(b.read) && (b.read[b.acked].seq <= upTo || b.read[b.acked].skip) {
		m := b.read[b.acked]
		b.read[b.acked] = nil
		b.acked++
		m.done = true
		switch {
		case m.orphan:
		case b.link == nil:
			b.expect(m) // acked when the broker sends it again
		case m.link == b.link:
			b.acks = append(b.acks, m)
			b.unacked--
		}
	}
	if b.acked == len(b.read) {
		b.read, b.acked = b.read[:0], 0
	} else if b.acked > len(b.read)/2 {
		n := copy(b.read, b.read[b.acked:])
		clear(b.read[n:])
		b.read, b.acked = b.read[:n], 0
	}
	if len(b.acks) > 0 {
		wake(b.ready) // the window may have been full
	}
	return b.acks, b.link
}

// unsent takes back acks that l could not send: they are sent when the broker sends the messages again.
func (b *inbox) unsent(l *link, acks []*message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link != nil && b.link != l {
		return // the next connection has begun without them: they are repeated
	}
	for _, m := range acks {
		b.expect(m)
	}
}

// roomyWindow is so many unacked messages that a millisecond is nothing to them.
const roomyWindow = 256

// roomy tells whether the broker has shown that it goes on sending for a while without an ack.
func (b *inbox) roomy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most >= roomyWindow
}

// status is what the reader has to tell the engine.
type status struct {
	window int
	idle   bool
	counts counts
}

func (b *inbox) status() status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := status{window: b.window, counts: b.counts}
	if s.window == 0 {
		s.window = max(firstWindow, b.most)
	}
	s.idle = b.up && b.waiting.n == 0 && b.unacked < s.window
	b.counts = counts{}
	return s
}

// fill is how many messages wait.
func (b *inbox) fill() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.n
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ring is a queue that grows up to a limit.
type ring struct {
	buf   []*message
	head  int
	n     int
	limit int
}

func (r *ring) at(i int) *message { return r.buf[(r.head+i)%len(r.buf)] }

func (r *ring) push(m *message) bool {
	if r.n == len(r.buf) {
		if r.n >= r.limit {
			return false
		}
		grown := make([]*message, min(r.limit, max(64, 2*r.n)))
		for i := range r.n {
			grown[i] = r.at(i)
		}
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)%len(r.buf)] = m
	r.n++
	return true
}

func (r *ring) pop() *message {
	if r.n == 0 {
		return nil
	}
	m := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	return m
}
