package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// transactions knows what became of the half messages of a sink, so that brokers which ask get the right answer.
//
// Each half message has a number, which rises, and names its sink, its store and the store's incarnation. A Deliver first stores
// the half messages of all its blocks; then it decides, for all numbers so far; then it commits them one by one, and forgets them. So a
// number says all there is to know: one that is not forgotten is being seen to, one up to the decision is to be committed, and one of an
// earlier incarnation was never committed to its end: its epoch comes again, so it is dropped.
type transactions struct {
	owner       string // store and node
	incarnation uint64
	suffix      string // properties of every half message, beside its number

	mu      sync.Mutex
	last    uint64
	decided uint64
	open    map[uint64]*message
	// twice holds numbers whose send failed: they may be stored, and were sent again under another number.
	twice map[uint64]struct{}
}

// maxTwice bounds the numbers of failed sends that are remembered; beyond it a message may come twice.
const maxTwice = 1 << 16

func newTransactions(rt flow.SinkRuntime, group string) (*transactions, error) {
	t := &transactions{
		owner: rt.StoreID + "/" + rt.Node, incarnation: rt.Incarnation, open: map[uint64]*message{}, twice: map[uint64]struct{}{},
	}
	suffix, err := rocketmq.AppendProperty(nil, rocketmq.Prepared, "true")
	if err == nil {
		suffix, err = rocketmq.AppendProperty(suffix, rocketmq.ProducerGroup, group)
	}
	if err == nil {
		_, err = rocketmq.AppendProperty(nil, rocketmq.Transaction, t.owner)
	}
	t.suffix = string(suffix)
	return t, err
}

// room is how many bytes a half message's properties have beside those of the record.
func (t *transactions) room() int {
	const numbers = 2 * 21 // two of 64 bits with their slashes
	return len(rocketmq.Transaction) + len(t.owner) + numbers + 2 + len(t.suffix)
}

// begin numbers a message that is about to be sent and returns its properties.
func (t *transactions) begin(m *message, props []byte) string {
	t.mu.Lock()
	t.last++
	m.number = t.last
	t.open[m.number] = m
	t.mu.Unlock()
	var b strings.Builder
	b.Grow(len(props) + t.room())
	b.Write(props)
	b.WriteString(rocketmq.Transaction)
	b.WriteByte(1)
	b.WriteString(t.owner)
	b.WriteByte('/')
	b.WriteString(strconv.FormatUint(t.incarnation, 10))
	b.WriteByte('/')
	b.WriteString(strconv.FormatUint(m.number, 10))
	b.WriteByte(2)
	b.WriteString(t.suffix)
	return b.String()
}

func (t *transactions) stored(m *message, h rocketmq.Half) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m.stored, m.half = true, h
}

// failed takes the number from a message whose half is missing, or may be.
func (t *transactions) failed(m *message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, m.number)
	if len(t.twice) < maxTwice {
		t.twice[m.number] = struct{}{}
	}
	m.stored = false
}

func (t *transactions) isStored(m *message) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return m.stored
}

// place is where a message's half is now.
func (t *transactions) place(m *message) rocketmq.Half {
	t.mu.Lock()
	defer t.mu.Unlock()
	return m.half
}

// decide commits all that was sent so far.
func (t *transactions) decide() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decided = t.last
}

// forget drops the messages of a Deliver that is done; the decision stays. Those of another one, which failed, are kept.
func (t *transactions) forget(lanes []*lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range lanes {
		for _, piece := range l.pieces {
			for i := range piece.chunk.messages {
				delete(t.open, piece.chunk.messages[i].number)
			}
		}
	}
}

// fate is what a broker is told of a half message.
type fate int

const (
	unknown fate = iota // nothing: it asks again
	commit
	rollback
)

// judge says what becomes of a half message by the name that it carries. A broker that asks has stored it anew, at h.
func (t *transactions) judge(name string, h rocketmq.Half) fate {
	rest, number, ok := cutLast(name)
	owner, incarnation, ok2 := cutLast(rest)
	if !ok || !ok2 || owner != t.owner {
		return unknown // another's, which has the same group
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, twice := t.twice[number]
	switch {
	case incarnation < t.incarnation:
		return rollback
	case incarnation > t.incarnation:
		return unknown
	case twice:
		delete(t.twice, number)
		return rollback
	}
	if m := t.open[number]; m != nil {
		if m.stored {
			m.half = h // the commit is about to be sent, to the newest place
		}
		return unknown
	}
	if number <= t.decided {
		return commit
	}
	return unknown
}

func cutLast(s string) (before string, number uint64, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", 0, false
	}
	number, err := strconv.ParseUint(s[i+1:], 10, 64)
	return s[:i], number, err == nil
}

// sendHalf stores one half message.
func (p *producer) sendHalf(ctx context.Context, l *lane, piece piece, m *message) error {
	if p.tx.isStored(m) {
		return nil
	}
	body, props, err := rocketmq.BatchMessage(m.data)
	if err != nil {
		return err
	}
	text := p.tx.begin(m, props)
	resp, err := p.ask(ctx, l, rocketmq.Send(p.cfg.Group, p.cfg.Topic, l.queue, p.rt.Clock.Now(), true, body, text), 1)
	switch {
	case err == nil:
	case rocketmq.IsRefused(err):
		l.reject(piece, m, err)
		m.done = true
		return nil
	default:
		p.tx.failed(m)
		return err
	}
	h, err := resp.Half()
	if err != nil {
		p.tx.failed(m)
		return flow.Transient(err)
	}
	p.tx.stored(m, h)
	return nil
}

// commitHalf lets readers see one message.
func (p *producer) commitHalf(ctx context.Context, l *lane, m *message) error {
	if !p.tx.isStored(m) {
		return flow.Transient(errors.New("rocketmq sink: a half message is to be stored again"))
	}
	end := rocketmq.EndTransaction(p.cfg.Group, p.cfg.Topic, l.queue.Broker, p.tx.place(m), true, false)
	_, err := p.ask(ctx, l, end, 1)
	if err != nil {
		if isHalfLost(err) {
			p.rt.Count("half_messages_lost", 1)
			p.tx.failed(m)
			return flow.Transient(fmt.Errorf("%w: the broker has lost the half message, which is stored again", err))
		}
		return err
	}
	m.done = true
	return nil
}

// isHalfLost finds a broker's word that there is no such half message: it crashed and lost it.
func isHalfLost(err error) bool {
	var e *rocketmq.ServerError
	if !errors.As(err, &e) || e.Code != rocketmq.SystemError {
		return false
	}
	for _, s := range []string{"prepared transaction message failed", "state table offset wrong", "commit log offset wrong", "producer group wrong"} {
		if strings.Contains(e.Remark, s) {
			return true
		}
	}
	return false
}
