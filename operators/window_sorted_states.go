package operators

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// stateWindows makes the windows of While and Between out of sorted records.
type stateWindows[K comparable, T, R any] struct {
	*sorted[K, T, R]
	open []stateWindow // by key
}

// stateWindow is a key's open window.
type stateWindow struct {
	start, last flow.Timestamp // the times of its first and its last record
	acc         agg.Slot       // plus 1; 0: none is open
}

func (s *stateWindows[K, T, R]) of(key flow.Slot) *stateWindow {
	if int(key) >= len(s.open) {
		s.open = append(s.open, make([]stateWindow, max(s.keys.Cap(), int(key)+1)-len(s.open))...)
	}
	return &s.open[key]
}

func (s *stateWindows[K, T, R]) reach(key flow.Slot, i, j int, out *flow.Output[window.Result[K, R]]) int {
	w, es := s.of(key), s.line.of[key]
	was := *w
	for k := i; k < j; k++ {
		e := &es[k]
		mark := window.Mark(e.flags)
		switch {
		case mark&window.Outside != 0:
			s.outside++
			if w.acc > 0 {
				s.shut(key, w, max(e.at, windowEnd(w.last, 1)), e.at, out)
			}
			continue
		case w.acc == 0 && mark&window.Opens == 0:
			s.outside++
			s.release(e)
			continue
		case w.acc == 0:
			*w = stateWindow{e.at, e.at, e.v}
			e.v = 0
			s.keys.Retain(key)
		default:
			s.acc.Merge(w.acc-1, e.v-1)
			w.last = e.at
			s.release(e)
		}
		if mark&window.Shuts != 0 {
			s.shut(key, w, windowEnd(e.at, 1), e.at, out)
		}
	}
	if was.acc > 0 || w.acc > 0 {
		s.part.Touch(key.Page())
	}
	s.places[key].head = j
	return 1 + j - i
}

// shut gives a window and forgets it.
func (s *stateWindows[K, T, R]) shut(key flow.Slot, w *stateWindow, end, at flow.Timestamp, out *flow.Output[window.Result[K, R]]) {
	r := out.Next(at, nil)
	r.Key, r.Start, r.End, r.Value = s.keys.Key(key), w.start, end, s.acc.Result(w.acc-1)
	s.acc.release(w.acc - 1)
	*w = stateWindow{}
	s.keys.Release(key)
}

func (s *stateWindows[K, T, R]) restore(key flow.Slot, n int) {
	es := s.line.of[key]
	for i := range n {
		s.release(&es[i])
	}
	s.places[key].head = n
}

func (s *stateWindows[K, T, R]) empty(flow.Slot) {}

// end gives the windows that are open, in order of time, key group and slot.
func (s *stateWindows[K, T, R]) end(out *flow.Output[window.Result[K, R]]) {
	var open []dueTime
	for key := range s.open {
		if w := &s.open[key]; w.acc > 0 {
			open = append(open, s.turn(flow.Slot(key), max(w.last, s.before+1)))
		}
	}
	slices.SortFunc(open, func(a, b dueTime) int {
		if a.less(b) {
			return -1
		}
		return 1
	})
	for _, e := range open {
		w := &s.open[e.key]
		s.part.Touch(e.key.Page())
		s.shut(e.key, w, windowEnd(w.last, 1), e.at, out)
	}
}

// A page is stored as the bitmap of its keys with an open window, the times of these, and their accumulators.

// AppendPage implements flow.PageStore.
func (s *stateWindows[K, T, R]) AppendPage(b []byte, _ int64, page uint32) []byte {
	first := int(page) * flow.PageSize
	var live uint64
	var slots []agg.Slot
	for key := first; key < first+flow.PageSize && key < len(s.open); key++ {
		if w := &s.open[key]; w.acc > 0 {
			live |= 1 << (key - first)
			slots = append(slots, w.acc-1)
		}
	}
	if live == 0 {
		return b
	}
	b = binary.LittleEndian.AppendUint64(b, live)
	for ; live != 0; live &= live - 1 {
		w := &s.open[first+bits.TrailingZeros64(live)]
		b = binary.LittleEndian.AppendUint64(b, uint64(w.start))
		b = binary.LittleEndian.AppendUint64(b, uint64(w.last))
	}
	return s.acc.Append(b, slots)
}

// ReadPage implements flow.PageStore.
func (s *stateWindows[K, T, R]) ReadPage(_ int64, page uint32, b []byte) error {
	if len(b) < 8 {
		return errPage
	}
	live := binary.LittleEndian.Uint64(b)
	b = b[8:]
	n := bits.OnesCount64(live)
	if len(b) < 16*n {
		return errPage
	}
	times, b := b[:16*n], b[16*n:]
	slots := make([]agg.Slot, n)
	for i := range slots {
		key := flow.Slot(page)*flow.PageSize + flow.Slot(bits.TrailingZeros64(live))
		live &= live - 1
		slots[i] = s.acc.alloc()
		at := times[16*i:]
		*s.of(key) = stateWindow{flow.Timestamp(binary.LittleEndian.Uint64(at)), flow.Timestamp(binary.LittleEndian.Uint64(at[8:])), slots[i] + 1}
		s.keys.Retain(key)
	}
	rest, err := s.acc.Read(b, slots)
	if err == nil && len(rest) > 0 {
		err = errPage
	}
	return err
}
