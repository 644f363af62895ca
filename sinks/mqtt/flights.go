package mqtt

// flight is a message that was published and is not confirmed.
type flight struct {
	block *block
	row   int
	// released: the broker has the message (PUBREC) and was told that it may forget its id (PUBREL).
	released bool
	// over: nothing is expected any more.
	over bool
}

// flights are the messages in flight, in the order in which they were published. The oldest that is not over and the newest are
// never further apart than the limit. A message's place among all that were ever published gives its id, so that ids go round
// and one that was just confirmed is the last to be used again.
type flights struct {
	ring       []flight // its size is a power of two
	base, next uint64   // places of the oldest and behind the newest
}

// ids is how many ids the protocol has: 1 to 65535.
const ids = 65535

func newFlights(limit int) flights {
	size := 1
	for size < limit {
		size *= 2
	}
	return flights{ring: make([]flight, size)}
}

func idOf(place uint64) uint16 { return uint16(place%ids) + 1 }

func (f *flights) at(place uint64) *flight { return &f.ring[place&uint64(len(f.ring)-1)] }

// span is how many places are taken.
func (f *flights) span() int { return int(f.next - f.base) }

// add takes a place for a row. There must be one.
func (f *flights) add(b *block, row int) (id uint16) {
	*f.at(f.next) = flight{block: b, row: row}
	f.next++
	return idOf(f.next - 1)
}

// find returns the message in flight with an id, nil if there is none.
func (f *flights) find(id uint16) *flight {
	if id == 0 {
		return nil
	}
	place := f.base + (uint64(id)-1+ids-f.base%ids)%ids
	if place >= f.next || f.at(place).over {
		return nil
	}
	return f.at(place)
}

// land ends a flight and gives places back.
func (f *flights) land(l *flight) {
	l.over, l.block = true, nil
	for f.base < f.next && f.at(f.base).over {
		f.base++
	}
}

// clear ends all flights: their rows are pending again.
func (f *flights) clear() (n int) {
	for ; f.base < f.next; f.base++ {
		if l := f.at(f.base); !l.over {
			l.block.state[l.row] = pending
			l.over, l.block = true, nil
			n++
		}
	}
	return n
}
