package operators

import (
	"math"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// waitingRoom keeps events until the watermark reaches them, and hands them out in order of time. Time is cut into stretches of the log's
// width; each has the values of its events in order of arrival, as far as they may be needed, and an order in which events have their turn.
type waitingRoom[T any] struct {
	log   timeline[T]
	rooms map[int64]*room[T]
	last  *room[T]
	order func(a, b T) int
	n     int
	spare []*room[T]
	over  func(last flow.Timestamp) bool
	done  flow.Timestamp // events up to here had their turn
	// held is, by key, the number of its latest room, nobody where the key is not held. Keys are held for a while behind that, since the log
	// names them by their slots, and so that a key whose events come now and then keeps its slot.
	held []int64
	// next is when to look for keys to release, at the earliest; came are the events since the last look.
	next flow.Timestamp
	came int
}

const (
	nobody = math.MinInt64
	// silentFor is how long keys are held on at least, in event time.
	silentFor = 10 * time.Second
	// fewKeys may be looked through whenever it is time. More of them wait until as many events have come as make it worth while.
	fewKeys = 4096
)

// turn is an event that waits.
type turn struct {
	at    flow.Timestamp
	i     int32 // its number by arrival
	value int32 // where its value is, none where it is not needed
	key   flow.Slot
	said  nfa.Said
}

const none = -1

type room[T any] struct {
	number int64
	bucket *bucket
	values []T
	// turns are in order of time up to sorted, and of arrival behind it; those from next on are still to come. least is the earliest of
	// those behind sorted.
	turns  []turn
	next   int
	sorted int
	least  flow.Timestamp
}

// waitWidth is the stretch of time of a room.
const waitWidth = flow.Timestamp(1e9)

func (w *waitingRoom[T]) open(rt flow.Runtime, print string, keys slotHolder, done flow.Timestamp) error {
	w.rooms, w.done, w.next = map[int64]*room[T]{}, done, flow.None
	w.log.width = waitWidth
	w.over = func(last flow.Timestamp) bool { return last <= w.done }
	w.log.restored = func(key flow.Slot, e *entry[T]) bool {
		if e.at > w.done {
			w.put(w.log.bucket(e.at), turn{at: e.at, key: key, said: nfa.Unsaid}, &e.v)
		}
		return false
	}
	return w.log.open(rt, "events", print, keys)
}

// add takes an event behind the ones that had their turn. Its value is kept if it may be needed.
func (w *waitingRoom[T]) add(key flow.Slot, at flow.Timestamp, v *T, said nfa.Said, keep bool) error {
	b := w.log.bucket(at)
	if w.log.durable {
		if err := w.log.log(b, key, at, 0, v); err != nil {
			return err
		}
	}
	if !keep && w.order == nil {
		v = nil
	}
	w.put(b, turn{at: at, key: key, said: said}, v)
	return nil
}

func (w *waitingRoom[T]) put(b *bucket, e turn, v *T) {
	r := w.last
	if r == nil || r.number != b.number {
		if r = w.rooms[b.number]; r == nil {
			if n := len(w.spare); n > 0 {
				r, w.spare = w.spare[n-1], w.spare[:n-1]
			} else {
				r = &room[T]{}
			}
			r.number, r.bucket = b.number, b
			w.rooms[b.number] = r
		}
		w.last = r
	}
	w.hold(e.key, r.number)
	e.i, e.value = int32(len(r.turns)), none
	if v != nil {
		e.value = int32(len(r.values))
		r.values = append(r.values, *v)
	}
	w.n++
	switch n := len(r.turns); {
	case r.sorted < n:
		r.least = min(r.least, e.at)
	case w.order == nil && (n == 0 || r.turns[n-1].at <= e.at):
		r.sorted++
	default:
		r.least = e.at
	}
	r.turns = append(r.turns, e)
}

// sort brings the events behind sorted to their places.
func (w *waitingRoom[T]) sort(r *room[T]) {
	compare := byTime(r.values, w.order)
	from := r.sorted
	r.sorted = len(r.turns)
	fresh := r.turns[from:]
	slices.SortFunc(fresh, compare)
	// Those before the first fresh one stay where they are.
	at, _ := slices.BinarySearchFunc(r.turns[r.next:from], fresh[0], compare)
	if at += r.next; at < from {
		merge(r.turns[at:], from-at, compare)
	}
}

// merge merges two sorted runs, the first of n elements.
func merge(s []turn, n int, compare func(a, b turn) int) {
	head := slices.Clone(s[:n])
	i, j, k := 0, n, 0
	for i < len(head) {
		if j < len(s) && compare(s[j], head[i]) < 0 {
			s[k] = s[j]
			j++
		} else {
			s[k] = head[i]
			i++
		}
		k++
	}
}

// take calls f for the events up to a time, in order. f must not add any.
func (w *waitingRoom[T]) take(upTo flow.Timestamp, f func(e *turn, v *T) error) error {
	for _, b := range w.log.order {
		if b.start > upTo {
			break
		}
		r := w.rooms[b.number]
		if r == nil {
			continue
		}
		if r.sorted < len(r.turns) && r.least <= upTo {
			w.sort(r)
		}
		for r.next < r.sorted && r.turns[r.next].at <= upTo {
			e := &r.turns[r.next]
			r.next++
			w.n--
			var v *T
			if e.value != none {
				v = &r.values[e.value]
			}
			if err := f(e, v); err != nil {
				return err
			}
		}
		if r.next == len(r.turns) {
			w.leave(r)
		}
	}
	return nil
}

// leave empties a room whose events all had their turn.
func (w *waitingRoom[T]) leave(r *room[T]) {
	delete(w.rooms, r.number)
	if w.last == r {
		w.last = nil
	}
	clear(r.values)
	if cap(r.turns) > 1<<16 {
		return
	}
	*r = room[T]{values: r.values[:0], turns: r.turns[:0]}
	w.spare = append(w.spare, r)
}

// forget drops the logs of what is done.
func (w *waitingRoom[T]) forget(done flow.Timestamp) {
	w.done = done
	w.log.drop(w.over, nil)
	if done >= w.next && (len(w.held) <= fewKeys || w.came >= len(w.held)/8 || done == flow.EndOfTime) {
		w.release(done)
	}
}

// hold keeps a key for a room.
func (w *waitingRoom[T]) hold(key flow.Slot, room int64) {
	for int(key) >= len(w.held) {
		w.held = append(w.held, nobody)
	}
	w.came++
	h := &w.held[key]
	if *h == nobody {
		w.log.keys.Retain(key)
	}
	*h = max(*h, room)
}

// release gives up the keys whose last room has been over for long enough.
func (w *waitingRoom[T]) release(done flow.Timestamp) {
	w.came, w.next = 0, done.Add(silentFor/2)
	upTo := int64(math.MaxInt64)
	if done != flow.EndOfTime {
		upTo = int64(done.Add(-silentFor)/waitWidth) - 2 // whichever way the division rounds
	}
	for key, room := range w.held {
		if room != nobody && room <= upTo {
			w.held[key] = nobody
			w.log.keys.Release(flow.Slot(key))
		}
	}
}
