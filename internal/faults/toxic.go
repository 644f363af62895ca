package faults

import (
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

const toxicType = "millrace"

// toxic stands in every connection, one per direction, and does what its proxy's mode says.
type toxic struct {
	p         *Proxy
	direction stream.Direction
}

// pieces is the state of one direction of one connection.
type pieces struct {
	// pending waits to be handed on.
	pending *stream.StreamChunk
	// lost: something has vanished, so nothing may follow.
	lost bool
	// drain ends the connection.
	drain chan struct{}
}

// NewState makes the state of a connection.
func (t *toxic) NewState() any {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return &pieces{drain: t.p.drain}
}

// Pipe carries one direction of one connection until it ends, or until toxiproxy puts another toxic behind it.
func (t *toxic) Pipe(stub *toxics.ToxicStub) {
	t.p.pipes.Add(1)
	defer t.p.pipes.Done()
	s, ok := stub.State.(*pieces)
	if !ok {
		stub.Close()
		return
	}
	for {
		if s.pending != nil && !t.hand(stub, s) {
			return
		}
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			s.pending = c
		}
	}
}

// hand does with a piece what the mode says, and reports whether the connection goes on here.
func (t *toxic) hand(stub *toxics.ToxicStub, s *pieces) bool {
	t.p.mu.Lock()
	m := t.p.mode
	t.p.mu.Unlock()
	s.lost = s.lost || m == vanishing || m == answersVanish && t.direction == stream.Downstream
	if s.lost {
		s.pending = nil
		return true
	}
	if m == slowly {
		delay := time.NewTimer(latency + time.Duration(len(s.pending.Data))*time.Second/rate)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-s.drain:
			return t.end(stub)
		case <-stub.Interrupt:
			return false
		}
	}
	n := int64(len(s.pending.Data))
	select {
	case stub.Output <- s.pending:
		s.pending = nil
		t.p.mu.Lock()
		t.p.bytes[t.direction] += n
		t.p.mu.Unlock()
		return true
	case <-s.drain:
		return t.end(stub)
	case <-stub.Interrupt:
		return false
	}
}

// end throws away what still comes, so that nobody waits for a connection that is over.
func (t *toxic) end(stub *toxics.ToxicStub) bool {
	for {
		select {
		case <-stub.Interrupt:
			return false
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return false
			}
		}
	}
}
