package operators

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// patterns runs patterns over the events of keys, in event time.
type patterns[K comparable, T, R any] struct {
	cfg      *cep.Config
	f        func(context.Context, cep.Match[K, T]) (R, error)
	late     lateRecords[T]
	timedOut *flow.Side[cep.Match[K, T]]
	almost   *flow.Output[cep.Match[K, T]]
	rt       flow.Runtime
	keys     flow.Keys[K]
	table    flow.Table
	events   waitingRoom[T]
	values   stored[T]
	lanes    []*lane[T]
	offered  []*lane[T] // those that events are offered to
	total    int
	due      turns
	wm       flow.Timestamp
	// before is the watermark before the end of the stream.
	before flow.Timestamp
	take   func(e *turn, v *T) error
	// ahead is the machine that tells ahead what becomes of events, nil if none does.
	ahead *nfa.Machine[T]

	// key and lane are those in work.
	key   flow.Slot
	lane  *lane[T]
	event *T
	now   flow.Timestamp
	found []cep.Match[K, T]
	trace []cep.Tracing[K, T]
	// matches and timedOuts are not counted yet.
	matches, timedOuts int64
}

// program is a pattern with its name in a set.
type program[T any] struct {
	name, version string
	prog          *nfa.Program[T]
	inForce       bool
}

// lane is one pattern and what keys have of it.
type lane[T any] struct {
	program[T]
	id      int64
	print   uint64 // of the structure of the pattern
	machine *nfa.Machine[T]
	runs    []keyRun[T]
	busy    []uint64 // a bit for each key that has a run: most have none
	n       int      // of runs
	parts   [flow.PageSize]*flow.Part
}

// keyRun is what a key has of a pattern.
type keyRun[T any] struct {
	run   *nfa.Run[T]
	still nfa.Still // of run
}

func newPatterns[K comparable, T, R any](cfg *cep.Config, progs []program[T], values stored[T], f func(context.Context, cep.Match[K, T]) (R, error), order func(a, b T) int,
	traces []cep.Tracing[K, T], late lateRecords[T], timedOut *flow.Side[cep.Match[K, T]]) *patterns[K, T, R] {
	p := &patterns[K, T, R]{cfg: cfg, f: f, late: late, timedOut: timedOut, values: values, wm: flow.None, before: flow.None, trace: traces}
	p.events.order = order
	p.events.log.code = values
	for _, prog := range progs {
		p.lanes = append(p.lanes, p.newLane(prog))
	}
	p.take = p.pass
	if l := p.lanes[0]; len(p.lanes) == 1 && l.name == "" && len(traces) == 0 && l.machine.Ahead() {
		p.ahead = l.machine
	}
	return p
}

func (p *patterns[K, T, R]) newLane(prog program[T]) *lane[T] {
	l := &lane[T]{program: prog, machine: nfa.NewMachine(prog.prog)}
	l.machine.Limits = nfa.Limits{PerKey: p.cfg.PerKey, Full: p.cfg.Full}
	if prog.name != "" {
		h := fnv.New64a()
		fmt.Fprintf(h, "%q%q", prog.name, prog.version)
		l.id = int64(h.Sum64() >> 8)
		h.Reset()
		fmt.Fprint(h, prog.prog.Fingerprint())
		l.print = h.Sum64()
	}
	l.machine.NoStarts = !prog.inForce
	return l
}

// Open implements flow.Opener.
func (p *patterns[K, T, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	p.rt, p.almost = rt, p.timedOut.Open(rt)
	p.late.open(rt)
	if err = flow.OpenKeys(rt, &p.keys); err != nil {
		return err
	}
	if p.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	return p.open()
}

func (p *patterns[K, T, R]) open() error {
	if err := flow.OpenTable(p.rt, "matches", &p.table, p); err != nil {
		return err
	}
	for _, l := range p.lanes {
		p.openLane(l)
	}
	p.offer()
	return p.events.open(p.rt, "cep", &p.keys, p.wm)
}

func (p *patterns[K, T, R]) openLane(l *lane[T]) {
	for i := range l.parts {
		l.parts[i] = p.table.Part(l.id<<6 | int64(i))
	}
	for key := range l.runs {
		if l.runs[key].run != nil {
			p.schedule(l, flow.Slot(key))
		}
	}
}

// What is noted of an event when it comes: what conditions say of it in the low bits, and what becomes of it.
const (
	noteKept = 1 << (16 + iota)
	noteLate
	noteTimed
	notePassed flow.Note = 0
)

// note asks the conditions of an event, where that can be done ahead.
func (p *patterns[K, T, R]) note(r *flow.Record[T]) flow.Note {
	if r.Time <= p.wm {
		return noteLate
	}
	if p.ahead == nil {
		return flow.NeedsKey | noteKept | flow.Note(nfa.Unsaid)
	}
	switch said, fate := p.ahead.Say(&r.Value); fate {
	case nfa.Passed:
		return notePassed
	case nfa.Kept:
		return flow.NeedsKey | noteKept | flow.Note(said)
	case nfa.Timed:
		return flow.NeedsKey | noteTimed | flow.Note(said)
	default:
		return flow.NeedsKey | flow.Note(said)
	}
}

// Screens implements flow.KeyedScreen.
func (p *patterns[K, T, R]) Screens() bool { return p.ahead != nil }

// Screen implements flow.KeyedScreen.
func (p *patterns[K, T, R]) Screen(in []flow.Record[T], notes []flow.Note) {
	for i := range in {
		notes[i] = p.note(&in[i])
	}
}

// ProcessScreened implements flow.KeyedScreen.
func (p *patterns[K, T, R]) ProcessScreened(_ context.Context, keys []flow.Slot, notes []flow.Note, in []flow.Record[T], _ *flow.Output[R]) (n int, err error) {
	for ; n < len(in); n++ {
		if notes[n] == notePassed {
			continue
		}
		if err := p.receive(keys[n], notes[n], &in[n]); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ProcessBatch implements flow.KeyedBatchOperator.
func (p *patterns[K, T, R]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], _ *flow.Output[R]) (n int, err error) {
	for ; n < len(in); n++ {
		note := p.note(&in[n])
		if note == notePassed {
			continue
		}
		if err := p.receive(keys[n], note, &in[n]); err != nil {
			return n, err
		}
	}
	return n, nil
}

// receive takes an event that may matter.
func (p *patterns[K, T, R]) receive(key flow.Slot, note flow.Note, r *flow.Record[T]) error {
	switch {
	case r.Time == flow.None:
		p.refuse(key, r, "late", "it has no time")
	case note&noteLate != 0:
		p.refuse(key, r, "late", "the watermark has reached its time, and what comes before it in order of time is decided")
	case note&noteTimed != 0 && p.untouched(key, r.Time):
	case p.events.n >= p.cfg.Waiting:
		p.refuse(key, r, "over_limit", fmt.Sprintf("%d events wait for the watermark already (cep.MaxWaiting)", p.cfg.Waiting))
	default:
		return p.events.add(key, r.Time, &r.Value, nfa.Said(note), note&noteKept != 0)
	}
	return nil
}

// untouched tells whether an event that only brings time changes nothing for a key.
func (p *patterns[K, T, R]) untouched(key flow.Slot, at flow.Timestamp) bool {
	l := p.lanes[0]
	var s *nfa.Still
	if l.has(key) {
		s = &l.runs[key].still
	}
	return l.machine.Untouched(s, at, p.wm)
}

// Process is the same for one record.
func (p *patterns[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := p.ProcessBatch(ctx, []flow.Slot{p.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

func (p *patterns[K, T, R]) refuse(key flow.Slot, r *flow.Record[T], counter, reason string) {
	p.rt.Count(counter, 1)
	*p.late.out.Next(r.Time, r.Meta) = flow.Late[T]{Value: r.Value, Time: r.Time, Reason: reason}
	if len(p.trace) > 0 {
		p.key, p.event, p.now, p.lane = key, &r.Value, r.Time, p.lanes[0]
		p.tell("late", -1, nfa.Match[T]{})
	}
}

// OnWatermark implements flow.WatermarkHandler: events have their turn up to the watermark, and then what time alone brings. A call that failed
// is repeated, and goes on where it stood.
func (p *patterns[K, T, R]) OnWatermark(ctx context.Context, wm flow.Timestamp, out *flow.Output[R]) error {
	if wm == flow.EndOfTime && p.wm < wm {
		p.before = p.wm
	}
	p.wm = max(p.wm, wm)
	return p.advance(ctx, p.wm, out)
}

// advance lets time come to now.
func (p *patterns[K, T, R]) advance(ctx context.Context, now flow.Timestamp, out *flow.Output[R]) error {
	for {
		if err := p.emit(ctx, out); err != nil {
			return err
		}
		err := p.events.take(now, p.take)
		if errors.Is(err, errFound) {
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	for {
		e, ok := p.due.pop(now)
		if !ok {
			break
		}
		for _, l := range p.offered {
			if err := p.pause(l, e.key, now); err != nil {
				return err
			}
		}
		p.later(e.key)
		if err := p.emit(ctx, out); err != nil {
			return err
		}
	}
	p.events.forget(now)
	p.counted()
	return nil
}

// errFound ends a take where a match is to be emitted.
var errFound = errors.New("a match was found")

// pass gives an event its turn.
func (p *patterns[K, T, R]) pass(e *turn, v *T) error {
	if e.said != nfa.Unsaid {
		if err := p.recall(p.lanes[0], e, v); err != nil {
			return err
		}
	} else {
		for _, l := range p.offered {
			if err := p.process(l, e.key, e.at, v); err != nil {
				return err
			}
		}
	}
	if len(p.found) > 0 {
		return errFound
	}
	return nil
}

func (l *lane[T]) has(key flow.Slot) bool {
	i := int(key / 64)
	return i < len(l.busy) && l.busy[i]>>(key%64)&1 != 0
}

func (l *lane[T]) run(key flow.Slot) *nfa.Run[T] {
	if !l.has(key) {
		return nil
	}
	return l.runs[key].run
}

// recall gives its turn to an event of which the conditions were asked when it came.
func (p *patterns[K, T, R]) recall(l *lane[T], e *turn, v *T) error {
	switch {
	case !l.has(e.key):
		if !l.machine.Begins(e.said) {
			return nil
		}
		l.machine.Recall(e.at, v, e.said)
		return p.begin(l, e.key, e.at, v)
	case !l.machine.Changes(&l.runs[e.key].still, e.at, e.said):
		return nil
	}
	if s := &l.runs[e.key]; l.machine.Ends(&s.still, e.at, e.said) {
		if n, ok := s.run.End(); ok {
			p.changed(l, e.key, s.run, n)
			return nil
		}
	}
	l.machine.Recall(e.at, v, e.said)
	return p.goOn(l, e.key, e.at, v)
}

func (p *patterns[K, T, R]) process(l *lane[T], key flow.Slot, at flow.Timestamp, v *T) error {
	if !l.has(key) {
		return p.first(l, key, at, v)
	}
	var looked bool
	if len(p.trace) == 0 {
		var quiet bool
		if quiet, looked = l.machine.Quiet(&l.runs[key].still, at, v); quiet {
			return nil
		}
	}
	if !looked {
		l.machine.Look(at, v)
	}
	return p.goOn(l, key, at, v)
}

// goOn offers the event in work to a key that has something.
func (p *patterns[K, T, R]) goOn(l *lane[T], key flow.Slot, at flow.Timestamp, v *T) error {
	p.work(l, key, at, v)
	r := l.runs[key].run
	before := r.Partials()
	l.machine.Limits.Room = p.cfg.Total - p.total + before
	changed, err := l.machine.Advance(r, at, p)
	if err != nil {
		return err
	}
	if changed { // whatever becomes of the event
		l.parts[key%flow.PageSize].Touch(key.Page())
		p.total += r.Partials() - before
		before = r.Partials()
	}
	more, err := l.machine.Take(r, at, p)
	if err != nil {
		return err
	}
	if changed || more {
		p.changed(l, key, r, before)
	}
	return nil
}

// first is process for a key that has nothing of the pattern.
func (p *patterns[K, T, R]) first(l *lane[T], key flow.Slot, at flow.Timestamp, v *T) error {
	if !l.machine.Starts(at, v) {
		if len(p.trace) > 0 && p.traced(key) {
			p.work(l, key, at, v)
			p.tell("fits no start", -1, nfa.Match[T]{})
		}
		return nil
	}
	return p.begin(l, key, at, v)
}

// begin offers the event in work to a key that has nothing.
func (p *patterns[K, T, R]) begin(l *lane[T], key flow.Slot, at flow.Timestamp, v *T) error {
	p.work(l, key, at, v)
	r := l.machine.Run()
	l.machine.Limits.Room = p.cfg.Total - p.total
	changed, err := l.machine.Take(r, at, p)
	switch {
	case err != nil:
		return err
	case changed:
		p.changed(l, key, r, 0)
	default:
		l.machine.Spare(r)
	}
	return nil
}

// pause lets time go by for a key.
func (p *patterns[K, T, R]) pause(l *lane[T], key flow.Slot, now flow.Timestamp) error {
	if !l.has(key) || !l.runs[key].still.Due(now) {
		return nil
	}
	r := l.runs[key].run
	p.work(l, key, now, nil)
	before := r.Partials()
	l.machine.Limits.Room = p.cfg.Total - p.total + before
	changed, err := l.machine.Advance(r, now, p)
	if err != nil || !changed {
		return err
	}
	p.changed(l, key, r, before)
	return nil
}

func (p *patterns[K, T, R]) work(l *lane[T], key flow.Slot, now flow.Timestamp, v *T) {
	p.lane, p.key, p.now, p.event = l, key, now, v
	if len(p.trace) > 0 {
		if l.machine.Trace = nil; p.traced(key) {
			l.machine.Trace = p.tell
		}
	}
}

// changed notes what a key has now of a pattern.
func (p *patterns[K, T, R]) changed(l *lane[T], key flow.Slot, r *nfa.Run[T], before int) {
	p.total += r.Partials() - before
	had := l.has(key)
	l.parts[key%flow.PageSize].Touch(key.Page())
	switch {
	case r.Empty():
		if had {
			l.clear(key)
			p.keys.Release(key)
		}
		l.machine.Spare(r)
	case !had:
		p.set(l, key, r)
		p.schedule(l, key)
	default:
		l.runs[key].still = r.Still()
		p.schedule(l, key)
	}
}

func (l *lane[T]) clear(key flow.Slot) {
	l.runs[key] = keyRun[T]{}
	l.busy[key/64] &^= 1 << (key % 64)
	l.n--
}

func (p *patterns[K, T, R]) set(l *lane[T], key flow.Slot, r *nfa.Run[T]) {
	if int(key) >= len(l.runs) {
		l.runs = append(l.runs, make([]keyRun[T], max(p.keys.Cap(), int(key)+1)-len(l.runs))...)
	}
	for int(key/64) >= len(l.busy) {
		l.busy = append(l.busy, 0)
	}
	l.runs[key] = keyRun[T]{r, r.Still()}
	l.n++
	l.busy[key/64] |= 1 << (key % 64)
	p.keys.Retain(key)
}

// schedule notes when time alone brings something for a key.
func (p *patterns[K, T, R]) schedule(l *lane[T], key flow.Slot) {
	if !l.prog.Timed() {
		return
	}
	if at := l.runs[key].still.Deadline(); at != flow.EndOfTime {
		p.due.add(dueTime{at, p.keys.Group(key.Page()), key})
	}
}

// later notes the next moment of a key, one of whose moments has come.
func (p *patterns[K, T, R]) later(key flow.Slot) {
	for _, l := range p.offered {
		if l.has(key) {
			p.schedule(l, key)
		}
	}
}

func (p *patterns[K, T, R]) counted() {
	if p.matches > 0 {
		p.rt.Count("matches", p.matches)
	}
	if p.timedOuts > 0 {
		p.rt.Count("timed_out", p.timedOuts)
	}
	p.matches, p.timedOuts = 0, 0
	for _, l := range p.lanes {
		if n := l.machine.Dropped; n > 0 {
			p.rt.Count("partials_dropped", n)
			l.machine.Dropped = 0
		}
	}
}

// Match implements nfa.Emit.
func (p *patterns[K, T, R]) Match(m nfa.Match[T], at flow.Timestamp) error {
	p.found = append(p.found, p.made(m, at))
	return nil
}

// TimedOut implements nfa.Emit.
func (p *patterns[K, T, R]) TimedOut(m nfa.Match[T], at flow.Timestamp) error {
	p.timedOuts++
	if p.timedOut.Used() {
		*p.almost.Next(at, nil) = p.made(m, at)
	}
	return nil
}

func (p *patterns[K, T, R]) made(m nfa.Match[T], at flow.Timestamp) cep.Match[K, T] {
	names := p.lane.prog.Stages()
	out := cep.NewMatch[K, T](p.keys.Key(p.key), names)
	out.Start, out.End, out.Time = m.First, m.Last, at
	out.Pattern, out.Version = p.lane.name, p.lane.version
	out.Steps = steps(m, names)
	return out
}

// steps are the events of a match by step, mostly in one piece.
func steps[T any](m nfa.Match[T], names []string) (s []cep.Events[T]) {
	n := m.Len()
	if n == 0 {
		return nil
	}
	all := make([]T, 0, n)
	s = make([]cep.Events[T], 0, min(n, len(names)))
	m.Each(func(stage int, e *nfa.Event[T]) {
		for i := len(s) - 1; i >= 0; i-- {
			if s[i].Step != names[stage] {
				continue
			}
			if i < len(s)-1 {
				s[i].Values = append(s[i].Values, e.Value) // which have their own place from now on
			} else {
				all = append(all, e.Value)
				s[i].Values = all[len(all)-1-len(s[i].Values) : len(all) : len(all)]
			}
			return
		}
		all = append(all, e.Value)
		s = append(s, cep.Events[T]{Step: names[stage], Values: all[len(all)-1 : len(all) : len(all)]})
	})
	return s
}

// emit gives the user's function what was found. A match that it refuses for now stays.
func (p *patterns[K, T, R]) emit(ctx context.Context, out *flow.Output[R]) error {
	if len(p.found) == 0 {
		return nil
	}
	n, err := p.give(ctx, out)
	p.found = slices.Delete(p.found, 0, n)
	p.matches += int64(n)
	return err
}

// give is emit that leaves what was found, and tells how much of it is out.
func (p *patterns[K, T, R]) give(ctx context.Context, out *flow.Output[R]) (n int, err error) {
	for ; n < len(p.found); n++ {
		m := &p.found[n]
		r, err := p.f(ctx, *m)
		if err != nil {
			return n, fmt.Errorf("match of key %v at %v: %w", m.Key, m.Time, err)
		}
		at := m.Time
		if at == flow.EndOfTime { // nothing is at the end of time
			at = max(m.End, p.before.Add(1))
		}
		*out.Next(at, nil) = r
	}
	return n, nil
}

func (p *patterns[K, T, R]) traced(key flow.Slot) bool {
	k := p.keys.Key(key)
	for i := range p.trace {
		if p.trace[i].Key == k {
			return true
		}
	}
	return false
}

func (p *patterns[K, T, R]) tell(what string, stage int, m nfa.Match[T]) {
	k := p.keys.Key(p.key)
	names := p.lane.prog.Stages()
	line := cep.Line[T]{At: p.now, Pattern: p.lane.name, What: what, Event: p.event, Taken: steps(m, names)}
	if stage >= 0 {
		line.Step = names[stage]
	}
	for i := range p.trace {
		if p.trace[i].Key == k {
			p.trace[i].To(line)
		}
	}
}
