package rule

import (
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/expr-lang/expr/vm"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Tracker is the rules at work for one task: it evaluates records, keeps each key's Book, and gathers alarms. operators.Rules and Check run
// it; use it for an operator of your own. It belongs to one goroutine.
//
// Order: records of a key are taken as they come. A record that is older than the newest one that a rule has taken for the same key and
// device is passed over by that rule, if it has an entry in the Book: it says nothing about now.
type Tracker[K comparable, T any] struct {
	// Alarms are what came of the last calls; the caller takes them out.
	Alarms []Alarm[K, T]
	// Counts are what happened since the caller last set them to zero.
	Counts Counts
	// ByClock says that times are of a clock, which may be set back: records are not passed over then.
	ByClock bool

	set   *Set[T]
	code  codec.Codec[T]
	vm    vm.VM
	ids   []uint32
	lists []*list

	// of the record at hand
	key    K
	device string
	value  *T
	rec    record
	now    flow.Timestamp
	floor  flow.Timestamp
	kept   T // decoded from an entry
	failed func(rule string, err error)
}

// Counts are numbers of events.
type Counts struct {
	// Stale are evaluations passed over because a newer record was there.
	Stale int64
	// Suppressed are alarms that a parent has kept from being raised.
	Suppressed int64
	// Errors are expressions and templates that failed.
	Errors int64
}

// record is a record as expressions see it.
type record struct {
	p   unsafe.Pointer
	env any
}

// NewTracker returns a tracker without rules. code stores records in Books. failed, which may be nil, is told of expressions and templates
// that fail for a record: the rule then takes the record as if it had not come.
func NewTracker[K comparable, T any](code codec.Codec[T], failed func(rule string, err error)) *Tracker[K, T] {
	if failed == nil {
		failed = func(string, error) {}
	}
	return &Tracker[K, T]{code: code, failed: failed}
}

// Use puts a set in force. Each book must be turned (Turn) before it is used again.
func (t *Tracker[K, T]) Use(s *Set[T]) { t.set = s }

// aim points expressions at a record; false where it is a nil pointer.
func (t *Tracker[K, T]) aim(v *T) bool {
	t.value = v
	if !t.set.shape.pointer {
		t.rec = record{unsafe.Pointer(v), v}
		return true
	}
	p := *(*unsafe.Pointer)(unsafe.Pointer(v))
	if p == nil {
		return false
	}
	t.rec = record{p, any(*v)}
	return true
}

// aimAtKept points expressions at the record that an entry has kept.
func (t *Tracker[K, T]) aimAtKept(e *entry) {
	t.kept = *new(T)
	if len(e.rec) > 0 {
		if err := t.code.Decode(e.rec, &t.kept); err != nil {
			t.fail(e.id, err)
		}
	}
	if v := reflect.ValueOf(&t.kept).Elem(); v.Kind() == reflect.Pointer && v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	t.aim(&t.kept)
}

func (t *Tracker[K, T]) keep(e *entry) {
	b, err := t.code.Append(e.rec[:0], t.value)
	if err != nil {
		t.fail(e.id, err)
	}
	e.rec = b
}

func (t *Tracker[K, T]) fail(rule string, err error) {
	t.Counts.Errors++
	t.failed(rule, err)
}

// holds evaluates a condition; ok is false where it fails.
func (t *Tracker[K, T]) holds(m *member, x *expression) (is, ok bool) {
	if x.fast != nil {
		return x.fast(t.rec.p), true
	}
	is, err := x.holds(&t.vm, t.rec)
	if err != nil {
		t.fail(m.ID, err)
		return false, false
	}
	return is, true
}

// Record evaluates a record of time at. watermark is how far event time is known to be, None where it is not. It tells whether the book
// has changed; an empty book is one too.
func (t *Tracker[K, T]) Record(b *Book, key K, device string, v *T, at, watermark flow.Timestamp) (changed bool) {
	if t.set == nil || len(t.set.rules) == 0 || !t.aim(v) {
		return false
	}
	t.key, t.device, t.now, t.floor = key, device, at, watermark
	t.ids, t.lists = t.set.index.match(t.rec.p, t.ids, t.lists[:0])
	if len(t.lists) > 1 && slices.ContainsFunc(t.lists, func(l *list) bool { return l.parents }) {
		for depth := range t.set.depth + 1 { // parents come before their children, whatever list they are in
			for _, l := range t.lists {
				if t.list(b, l, int32(depth)) {
					changed = true
				}
			}
		}
		return changed
	}
	for _, l := range t.lists {
		if t.list(b, l, anyDepth) {
			changed = true
		}
	}
	return changed
}

const anyDepth = -1

// list evaluates the record for the rules of a list that have a depth.
func (t *Tracker[K, T]) list(b *Book, l *list, depth int32) (changed bool) {
	guards := l.guards
	for i := range l.rules {
		c := &l.rules[i]
		own := guards[:c.guards]
		guards = guards[c.guards:]
		if depth != anyDepth && c.depth != depth {
			continue
		}
		if len(b.entries) > 0 {
			if at, found := b.find(int(c.ord), t.device); found {
				if t.meet(b, at) {
					changed = true
				}
				continue
			}
		}
		if t.guarded(own) && (c.exact || t.isTrue(c.m)) {
			t.open(b, c.m)
			changed = true
		}
	}
	return changed
}

// guarded tells whether a rule's guards let its condition be true.
func (t *Tracker[K, T]) guarded(gs []guard) bool {
	for i := range gs {
		if !gs[i].holds(t.rec.p) {
			return false
		}
	}
	return true
}

func (t *Tracker[K, T]) isTrue(m *member) bool {
	is, _ := t.holds(m, m.when)
	return is
}

// open makes the entry of a rule whose condition has become true.
func (t *Tracker[K, T]) open(b *Book, m *member) {
	e := &entry{id: m.ID, m: m, version: m.version, hash: m.hash, choice: m.choice, device: strings.Clone(t.device),
		phase: quiet, cool: flow.None, calm: flow.None, due: flow.None, last: flow.None}
	i, _ := b.find(m.ord, e.device)
	b.insert(i, e)
	t.begin(b, e)
}

// meet evaluates the record for a rule that has an entry.
func (t *Tracker[K, T]) meet(b *Book, i int) (changed bool) {
	e := b.entries[i]
	if t.now < e.last {
		if !t.ByClock {
			t.Counts.Stale++
			return false
		}
		now := t.now // the clock was set back: time stands still for a while
		defer func() { t.now = now }()
		t.now = e.last
	}
	for t.catchUp(b, e) { // what is raised may have settled as well
		changed = true
	}
	m := e.m
	when, ok := t.holds(m, m.when)
	if !ok {
		return changed
	}
	switch e.phase {
	case pending:
		e.last = t.now
		if !when {
			e.phase, e.count, e.held = quiet, 0, false
			break
		}
		if e.count < 1<<31 {
			e.count++
		}
		t.keep(e)
		t.ripen(b, e)
		return true
	case quiet:
		if when {
			t.begin(b, e)
			return true
		}
		if !changed {
			return false
		}
	case active:
		e.last = t.now
		t.whileActive(b, e, when)
	}
	t.rest(b, e)
	return true
}

// catchUp does what time would have done before the record at hand, had its watermark come.
func (t *Tracker[K, T]) catchUp(b *Book, e *entry) bool {
	at, value := t.now, t.value
	switch {
	case e.phase == pending && e.count >= e.m.need && !e.held && e.m.ripe(e.since, e.cool) < at:
		t.now = e.m.ripe(e.since, e.cool)
		t.aimAtKept(e)
		t.raise(b, e)
	case e.phase == active && e.flaps && e.calm < at:
		t.now = e.calm
		t.settle(e)
	case e.phase == quiet && e.due != flow.None && max(e.cool, e.calm) < at:
		e.due = flow.None
		e.cool, e.calm, e.changes = flow.None, flow.None, nil
	default:
		return false
	}
	t.now = at
	t.aim(value)
	return true
}

// begin takes the first record for which the condition is true.
func (t *Tracker[K, T]) begin(b *Book, e *entry) {
	e.phase, e.since, e.last, e.count, e.held = pending, t.now, t.now, 1, false
	e.version, e.changed = e.m.version, false
	e.floor = max(t.now, t.floor)
	t.keep(e)
	t.ripen(b, e)
}

// ripen raises a pending alarm if it is time, or says when it will be.
func (t *Tracker[K, T]) ripen(b *Book, e *entry) {
	e.due = flow.None
	if e.count < e.m.need {
		return
	}
	ripe := e.m.ripe(e.since, e.cool)
	if ripe <= t.now {
		t.raise(b, e)
		return
	}
	if !e.held {
		// Records behind a late one are still to come: time must pass as well.
		e.due = max(ripe, e.floor.Add(e.m.For))
	}
}

// raise raises a pending alarm, unless a parent is against it.
func (t *Tracker[K, T]) raise(b *Book, e *entry) {
	e.due = flow.None
	if t.suppressed(b, e.m) {
		if !e.held {
			e.held = true
			t.Counts.Suppressed++
		}
		return
	}
	e.phase, e.held, e.changed = active, false, false
	e.severity = t.severity(e.m)
	e.update = t.updateOf(e.m)
	t.describe(e)
	if t.flapping(e) {
		e.flaps, e.on = true, true
		t.calmBy(e)
		t.emit(e, Raised, ReasonFlapping)
		return
	}
	t.emit(e, Raised, "")
}

func (t *Tracker[K, T]) suppressed(b *Book, m *member) bool {
	for p := m.parent; p != nil; p = p.parent {
		if b.active(p) {
			return true
		}
	}
	return false
}

// whileActive takes a record while the alarm is raised.
func (t *Tracker[K, T]) whileActive(b *Book, e *entry, when bool) {
	m := e.m
	over := !when
	if over && m.clear != nil {
		is, ok := t.holds(m, m.clear)
		over = is && ok
	}
	if e.flaps {
		if on := when || e.on && !over; on != e.on {
			e.on = on
			t.keep(e)
			t.calmBy(e)
		}
		return
	}
	if over {
		if !t.flapping(e) {
			e.version = m.version
			t.over(e, "")
			return
		}
		e.flaps, e.on = true, false
		t.keep(e)
		t.calmBy(e)
		t.emit(e, Updated, ReasonFlapping)
		return
	}
	if t.suppressed(b, m) {
		return
	}
	severity, update := t.severity(m), t.updateOf(m)
	var reason string
	switch {
	case severity != e.severity:
		reason = ReasonSeverity
	case e.changed:
		reason = ReasonChanged
	case update != e.update:
		reason = ReasonUpdate
	default:
		return
	}
	e.severity, e.update, e.changed, e.version = severity, update, false, m.version
	t.describe(e)
	t.keep(e)
	t.emit(e, Updated, reason)
}

// flapping notes a raising or clearing, and tells whether there were too many.
func (t *Tracker[K, T]) flapping(e *entry) bool {
	f := e.m.Flapping
	if f == nil {
		return false
	}
	from := t.now.Add(-f.Within)
	e.changes = slices.DeleteFunc(append(e.changes, t.now), func(at flow.Timestamp) bool { return at < from })
	if n := len(e.changes) - f.Changes; n > 0 {
		e.changes = slices.Delete(e.changes, 0, n)
	}
	e.calm = t.now.Add(f.Within)
	return len(e.changes) >= f.Changes
}

// calmBy sets when flapping ends if nothing changes any more.
func (t *Tracker[K, T]) calmBy(e *entry) {
	e.calm = t.now.Add(e.m.stable)
	e.due = max(e.calm, max(t.now, t.floor).Add(e.m.stable))
}

// settle ends flapping.
func (t *Tracker[K, T]) settle(e *entry) {
	e.flaps, e.changes, e.due, e.calm = false, nil, flow.None, flow.None
	t.aimAtKept(e)
	if e.on {
		t.emit(e, Updated, ReasonStable)
		return
	}
	t.over(e, ReasonStable)
}

// over clears an alarm.
func (t *Tracker[K, T]) over(e *entry, reason string) {
	t.emit(e, Cleared, reason)
	e.phase, e.count, e.due, e.cool = quiet, 0, flow.None, flow.None
	if e.m != nil && e.m.Cooldown > 0 {
		e.cool = t.now.Add(e.m.Cooldown)
	}
	e.severity, e.message, e.update, e.labels, e.rec = "", "", "", nil, nil
}

// rest removes an entry that has nothing to remember, and lets time remove a quiet one.
func (t *Tracker[K, T]) rest(b *Book, e *entry) {
	if e.phase != quiet {
		return
	}
	e.due = max(e.cool, e.calm)
	if e.due == flow.None {
		if i, found := b.find(e.m.ord, e.device); found {
			b.remove(i)
		}
	}
}

// Due does what time does by at: it raises what has held for long enough, ends flapping, and forgets.
func (t *Tracker[K, T]) Due(b *Book, key K, at flow.Timestamp) {
	t.key, t.floor = key, at
	for i := 0; i < len(b.entries); i++ {
		e := b.entries[i]
		if e.due == flow.None || e.due > at {
			continue
		}
		n := len(b.entries)
		t.now, t.device = e.due, e.device
		switch {
		case e.phase == pending:
			t.aimAtKept(e)
			t.raise(b, e)
		case e.phase == active && e.flaps:
			t.settle(e)
			t.rest(b, e)
		case e.phase == quiet:
			b.remove(i)
		default:
			e.due = flow.None
		}
		if len(b.entries) < n {
			i--
		}
	}
}

// Turn brings a book into line with the set in force, at a moment: alarms of rules that are gone, or that do not select the same any more,
// are cleared; what was pending for a rule that has changed begins anew; other alarms stay, and are updated with their next record.
func (t *Tracker[K, T]) Turn(b *Book, key K, at flow.Timestamp) (changed bool) {
	t.key, t.floor = key, at
	b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool {
		t.now, t.device = max(at, e.last), e.device
		m := t.set.byID[e.id]
		switch {
		case m == nil, e.choice != m.choice:
			changed = true
			if e.phase == active {
				t.aimAtKept(e)
				e.m, e.flaps = nil, false
				reason := ReasonChanged
				if m == nil {
					reason = ReasonRemoved
				}
				t.over(e, reason)
			}
			return true
		case e.hash == m.hash:
			e.m = m
			return false
		}
		changed = true
		e.m, e.hash, e.changed = m, m.hash, true
		if m.Flapping == nil && e.flaps {
			t.settle(e)
		}
		if e.phase == quiet {
			e.due = max(e.cool, e.calm)
		}
		return e.phase == pending || e.phase == quiet && e.due == flow.None
	})
	slices.SortFunc(b.entries, func(x, y *entry) int {
		if x.m.ord != y.m.ord {
			return x.m.ord - y.m.ord
		}
		return strings.Compare(x.device, y.device)
	})
	return changed
}

// severity is that of the first level whose condition is true, or the rule's.
func (t *Tracker[K, T]) severity(m *member) string {
	for i := range m.levels {
		if is, _ := t.holds(m, m.levels[i].when); is {
			return m.levels[i].severity
		}
	}
	return m.Severity
}
