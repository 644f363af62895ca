package flow

import "sync"

// courier hands blocks to one sink, which is never called twice at once. Units that wait meanwhile share the next call: their blocks
// go together, in the order in which they came.
type courier struct {
	sink    sinkNode
	mu      sync.Mutex
	busy    bool
	waiting []*shipment
}

// shipment are one unit's blocks of one epoch.
type shipment struct {
	blocks  []Block
	rejects []Reject
	err     error
	// turn says true: carry what waits, this one included; false: it was carried.
	turn chan bool
}

// deliver returns when the blocks are durable, with the rows that were refused, or when the topology fails.
func (c *courier) deliver(e *engine, blocks []Block) ([]Reject, error) {
	s := &shipment{blocks: blocks, turn: make(chan bool, 1)}
	c.mu.Lock()
	c.waiting = append(c.waiting, s)
	wait := c.busy
	c.busy = true
	c.mu.Unlock()
	if wait && !<-s.turn {
		return s.rejects, s.err
	}
	c.mu.Lock()
	load := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	var all []Block
	for _, l := range load {
		all = append(all, l.blocks...)
	}
	rejects, err := e.deliverTo(c.sink, all)
	first := 0
	for _, l := range load {
		for _, r := range rejects {
			if r.Block >= first && r.Block < first+len(l.blocks) {
				r.Block -= first
				l.rejects = append(l.rejects, r)
			}
		}
		first += len(l.blocks)
		l.err = err
	}
	c.mu.Lock()
	if len(c.waiting) > 0 {
		c.waiting[0].turn <- true
	} else {
		c.busy = false
	}
	c.mu.Unlock()
	for _, l := range load {
		if l != s {
			l.turn <- false
		}
	}
	return s.rejects, s.err
}
