package flow

// Output takes what an operator emits. It is owned by one task; its memory is the engine's and reused, so keep no pointer.
//
// Emitting has no error: what goes wrong downstream (a stop) is found by the engine, which then does not call again.
type Output[T any] struct {
	buf []Record[T]
	// flush takes buf and returns it empty. It is set where the operator may emit without end (watermarks, timers); nil while a
	// record is processed, so that what a failing record emitted can be taken back.
	flush func([]Record[T]) []Record[T]
}

// Emit adds a record.
func (o *Output[T]) Emit(r Record[T]) {
	if len(o.buf) == cap(o.buf) {
		o.full()
	}
	o.buf = append(o.buf, r)
}

// Next adds a record with a zero value and returns a pointer to the value, to be filled before the next call on the output:
//
//	*out.Next(r.Time, r.Meta) = v
func (o *Output[T]) Next(t Timestamp, m *Meta) *T {
	n := len(o.buf)
	if n == cap(o.buf) {
		o.full()
		n = len(o.buf)
	}
	o.buf = o.buf[:n+1]
	o.buf[n] = Record[T]{Time: t, Meta: m}
	return &o.buf[n].Value
}

// Room returns n records behind those emitted, for a BatchOperator to fill whole: their contents are unspecified. Take emits the first
// of them. It must not be used where records may be emitted without end (OnWatermark, OnTimer).
func (o *Output[T]) Room(n int) []Record[T] {
	l := len(o.buf)
	if cap(o.buf)-l < n {
		b := make([]Record[T], l, max(2*cap(o.buf), l+n, MaxBatch))
		copy(b, o.buf)
		o.buf = b
	}
	return o.buf[l : l+n]
}

// Take emits the first n records of what Room returned.
func (o *Output[T]) Take(n int) { o.buf = o.buf[:len(o.buf)+n] }

func (o *Output[T]) full() {
	if o.flush != nil && len(o.buf) > 0 {
		o.buf = o.flush(o.buf)
		return
	}
	n := 2 * cap(o.buf)
	if n < 64 {
		n = 64
	}
	b := make([]Record[T], len(o.buf), n)
	copy(b, o.buf)
	o.buf = b
}

// Undo takes back the last n records emitted in this call: for a BatchOperator whose record n failed half-way.
func (o *Output[T]) Undo(n int) { o.truncate(len(o.buf) - n) }
