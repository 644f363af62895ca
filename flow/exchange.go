package flow

import (
	"encoding/binary"
	"fmt"
)

// exchange is one KeyBy at run time: P worker tasks that own the key groups, fed by every task upstream.
type exchange struct {
	id    int
	owner string   // node after which its watermarks are stored
	nodes []string // all nodes behind it: one of them was the owner before
	moved string   // the owner before, whose entry is to go
	apart bool     // never fused
	fused bool     // one partition and one worker: no exchange at all
	tasks []*task
	// gates hold the merged watermarks of each worker.
	gates []*gate
	make  func(b *builder) any // builds a worker's receiver: *exchangeWorker[K, T]
	ins   map[string]int       // input of each sending task
	// sources are the inputs that stand for sources which have not named a partition yet: they hold the watermark.
	sources map[string]int
	parts   int
	// restored are the inputs that the store knew, until they are registered again.
	restored map[string]valveInput
}

func (e *keying[K, T]) exchange() *exchange {
	if e.in == nil || e.owner == nil {
		return nil
	}
	x := &exchange{id: e.part.id, owner: e.owner.name, nodes: e.part.nodes, parts: e.part.parallelism, ins: map[string]int{}}
	x.make = func(b *builder) any {
		return &exchangeWorker[K, T]{entry: e.entry(b), gate: b.t.gate}
	}
	return x
}

// blame is the node that an error of the key function is put down to.
func (e *keying[K, T]) blame() *node {
	if e.from != nil {
		return e.from
	}
	return e.owner
}

// gate merges the marks of a worker's inputs.
type gate struct {
	valve valve
	emit  func(mark)
}

// keyedEntry turns records into records with slots.
type keyedEntry[K comparable, T any] struct {
	key    func(T) K
	code   *keyBytes[K]
	tab    *keyTable[K]
	keys   []K
	hashes []uint64
	slots  []Slot
	found  []Slot // of those that need their keys
	next   keyedReceiver[T]
	t      *task
	nt     *nodeTask // of the node above the KeyBy, for errors of its key function
	// screen is next where that can do without most keys, nil else.
	screen screenReceiver[T]
	notes  []Note
	places []int32 // of those that need their keys
}

// entry makes the edge's end within a task, and what stands behind it.
func (e *keying[K, T]) entry(b *builder) *keyedEntry[K, T] {
	tab := keyTableOf(b, e.code)
	return newKeyedEntry(b, tab, e.key, e.blame(), e.build(b, tab))
}

// keyTableOf makes a table of keys for a builder's task.
func keyTableOf[K comparable](b *builder, code *keyBytes[K]) *keyTable[K] {
	tab := newKeyTable(code, b.u.seed)
	tab.scope = b.u.scope
	b.t.tables = append(b.t.tables, tab)
	return tab
}

func newKeyedEntry[K comparable, T any](b *builder, tab *keyTable[K], key func(T) K, blame *node, next keyedReceiver[T]) *keyedEntry[K, T] {
	k := &keyedEntry[K, T]{
		key: key, code: tab.code, tab: tab, t: b.t, nt: newNodeTask(b, blame),
		keys: make([]K, MaxBatch), slots: make([]Slot, MaxBatch), next: next,
	}
	if r, ok := next.(screenReceiver[T]); ok && r.screens() {
		k.screen, k.notes = r, make([]Note, MaxBatch)
		k.places, k.found = make([]int32, 0, MaxBatch), make([]Slot, MaxBatch)
	}
	return k
}

func (k *keyedEntry[K, T]) push(batch []Record[T]) {
	if k.screen != nil {
		k.pushScreened(nil, batch)
		return
	}
	for len(batch) > 0 && k.t.err == nil {
		n := min(len(batch), MaxBatch)
		ok, err := keysOf(k.key, batch[:n], k.keys)
		k.pushKeys(batch[:ok])
		batch = batch[ok:]
		if err != nil && !k.nt.fate(err, letterOf(&batch[0])) {
			batch = batch[1:]
		}
	}
}

// screenReceiver is a keyedReceiver that may do without most keys.
type screenReceiver[T any] interface {
	keyedReceiver[T]
	screens() bool
	// screen writes notes up to a record that fails.
	screen(batch []Record[T], notes []Note) (n int, err error)
	pushScreened(keys []Slot, notes []Note, batch []Record[T])
	fate(err error, letter func() DeadLetter) (again bool)
}

// pushScreened is push, or pushHashed where the hashes are known, for the keys that are needed.
func (k *keyedEntry[K, T]) pushScreened(hashes []uint64, batch []Record[T]) {
	for len(batch) > 0 && k.t.err == nil {
		part, notes := batch[:min(len(batch), MaxBatch)], k.notes
		fate := k.screen.fate
		n, err := k.screen.screen(part, notes)
		k.places = k.places[:0]
		for i, note := range notes[:n] {
			if note&NeedsKey != 0 {
				k.places = append(k.places, int32(i))
			}
		}
		var failed error
		switch need := len(k.places); {
		case need == n && n > 0:
			if n, failed = keysOf(k.key, part[:n], k.keys); n > 0 {
				k.lookup(k.keys[:n], hashes, k.slots)
			}
		case need > 0:
			if need, failed = keysAt(k.key, part, k.places, k.keys); failed != nil {
				n = int(k.places[need])
			}
			k.find(k.places[:need], hashes)
		}
		if failed != nil {
			err, fate = failed, k.nt.fate
		}
		if n > 0 {
			k.screen.pushScreened(k.slots[:n], notes[:n], part[:n])
		}
		if err != nil && !fate(err, letterOf(&part[n])) {
			n++
		}
		batch = batch[n:]
		if hashes != nil {
			hashes = hashes[n:]
		}
	}
}

// find looks up keys, of the records at places, and puts their slots at the records' places.
func (k *keyedEntry[K, T]) find(places []int32, known []uint64) {
	var hashes []uint64
	if known != nil {
		hashes = k.room(len(places))
		for j, i := range places {
			hashes[j] = known[i]
		}
	}
	k.lookup(k.keys[:len(places)], hashes, k.found)
	for j, i := range places {
		k.slots[i] = k.found[j]
	}
}

// lookup looks up keys, whose hashes are known or nil.
func (k *keyedEntry[K, T]) lookup(keys []K, hashes []uint64, slots []Slot) {
	if hashes == nil {
		hashes = k.room(len(keys))
		k.code.hashAll(keys, hashes)
	}
	k.tab.lookup(keys, hashes[:len(keys)], slots[:len(keys)])
}

func (k *keyedEntry[K, T]) room(n int) []uint64 {
	if cap(k.hashes) < n {
		k.hashes = make([]uint64, max(MaxBatch, n))
	}
	return k.hashes[:n]
}

// keysAt is keysOf for the records at some places.
func keysAt[K comparable, T any](key func(T) K, batch []Record[T], places []int32, keys []K) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	for n = range places {
		keys[n] = key(batch[places[n]].Value)
	}
	return len(places), nil
}

// keysOf fills keys until the user's function panics: that is the error of record n.
func keysOf[K comparable, T any](key func(T) K, batch []Record[T], keys []K) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	for n = range batch {
		keys[n] = key(batch[n].Value)
	}
	return len(batch), nil
}

func (k *keyedEntry[K, T]) pushKeys(batch []Record[T]) {
	if len(batch) == 0 {
		return
	}
	keys, h := k.keys[:len(batch)], k.room(len(batch))
	k.code.hashAll(keys, h)
	k.pushHashed(h, keys, batch)
}

func (k *keyedEntry[K, T]) fill(batch []Record[T]) []K {
	keys := k.keys[:len(batch)]
	for i := range batch {
		keys[i] = k.key(batch[i].Value)
	}
	return keys
}

// pushSent takes records whose keys were hashed before.
func (k *keyedEntry[K, T]) pushSent(hashes []uint64, batch []Record[T]) {
	if k.screen != nil {
		k.pushScreened(hashes, batch)
		return
	}
	k.pushHashed(hashes, k.fill(batch), batch)
}

func (k *keyedEntry[K, T]) pushHashed(hashes []uint64, keys []K, batch []Record[T]) {
	slots := k.slots[:len(keys)]
	k.tab.lookup(keys, hashes, slots)
	k.next.pushKeyed(slots, batch)
}

func (k *keyedEntry[K, T]) mark(m mark) {
	if m.kind != markSilent {
		k.next.mark(m)
	}
}

// posMark is a mark within a batch, before record at.
type posMark struct {
	at int
	m  mark
}

// exchangeBatch is what crosses from a task to a worker.
type exchangeBatch[K comparable, T any] struct {
	w      *exchangeWorker[K, T]
	in     int
	recs   []Record[T]
	hashes []uint64
	marks  []posMark
	free   chan *exchangeBatch[K, T]
}

func (b *exchangeBatch[K, T]) run(*task) {
	e := b.w.entry
	from := 0
	for _, pm := range b.marks {
		if pm.at > from {
			e.pushSent(b.hashes[from:pm.at], b.recs[from:pm.at])
			from = pm.at
		}
		b.w.gate.valve.take(b.in, pm.m, e.mark)
	}
	if n := len(b.recs); n > from {
		e.pushSent(b.hashes[from:n], b.recs[from:n])
	}
	clear(b.recs)
	b.recs, b.hashes, b.marks = b.recs[:0], b.hashes[:0], b.marks[:0]
	select {
	case b.free <- b:
	default:
	}
}

// exchangeWorker is the receiving end in a worker's task.
type exchangeWorker[K comparable, T any] struct {
	entry *keyedEntry[K, T]
	gate  *gate
}

func (w *exchangeWorker[K, T]) emit(m mark) { w.entry.mark(m) }

// exchangeSender is the sending end in a task upstream.
type exchangeSender[K comparable, T any] struct {
	x       *exchange
	key     func(T) K
	code    *keyBytes[K]
	t       *task
	in      int
	workers []*exchangeWorker[K, T]
	pending []*exchangeBatch[K, T]
	free    chan *exchangeBatch[K, T]
	keys    []K
	hashes  []uint64
	nt      *nodeTask
}

// newExchangeSender makes it; side tells several inputs from one task apart, and of finds a worker's entry.
func newExchangeSender[K comparable, T any](b *builder, exchange int, key func(T) K, code *keyBytes[K], blame *node, side string, of func(*task) *exchangeWorker[K, T]) receiver[T] {
	x := b.u.exchanges[exchange]
	name := b.t.id + side
	x.level(b.t, name)
	s := &exchangeSender[K, T]{x: x, key: key, code: code, t: b.t, in: x.input(name), nt: newNodeTask(b, blame)}
	for _, t := range x.tasks {
		s.workers = append(s.workers, of(t))
	}
	s.pending = make([]*exchangeBatch[K, T], len(x.tasks))
	s.free = make(chan *exchangeBatch[K, T], 4*len(x.tasks))
	s.keys, s.hashes = make([]K, MaxBatch), make([]uint64, MaxBatch)
	b.t.ends = append(b.t.ends, s.flush)
	b.t.inputs = append(b.t.inputs, func() { x.remove(b.t.u, s.in) })
	return s
}

// input registers a sending task with every worker: it holds the watermark from now on. Inputs are registered before their tasks
// run, while the workers' gates are not in use or under the unit's pause.
func (x *exchange) input(sender string) int {
	if i, ok := x.ins[sender]; ok {
		return i
	}
	var i int
	for _, g := range x.gates {
		i = g.valve.add()
		if in, ok := x.restored[sender]; ok {
			// Idleness is not kept: the partition was just asked to be read again.
			in.idle, in.aligned = false, in.wm >= g.valve.out
			g.valve.in[i] = in
		}
	}
	x.ins[sender] = i
	return i
}

// await makes a source hold the watermark until it has named its first partitions.
func (x *exchange) await(source string) {
	for _, g := range x.gates {
		if x.sources == nil {
			x.sources = map[string]int{}
		}
		x.sources[source] = g.valve.add()
	}
}

// arrived lets go of what stood for a source.
func (x *exchange) arrived(u *unit, source string) {
	if i, ok := x.sources[source]; ok {
		delete(x.sources, source)
		x.remove(u, i)
	}
}

// level puts the restored watermark of a sender that is a worker itself down to the merged one. With another parallelism the name may be
// that of another task then, and what waits in an async operator of this one may be older than what that task had seen. The task's own
// watermark comes anew at once.
func (x *exchange) level(t *task, sender string) {
	if t.exchange == nil && t.behind == nil {
		return
	}
	if in, ok := x.restored[sender]; ok {
		in.wm = x.gates[0].valve.out
		x.restored[sender] = in
	}
}

func (x *exchange) remove(u *unit, in int) {
	for i, t := range x.tasks {
		g := x.gates[i]
		u.post(t, control(func(*task) { g.valve.remove(in, g.emit) }))
	}
}

func (s *exchangeSender[K, T]) push(batch []Record[T]) {
	for len(batch) > 0 && s.t.err == nil {
		n := min(len(batch), MaxBatch)
		ok, err := keysOf(s.key, batch[:n], s.keys)
		s.spread(batch[:ok])
		batch = batch[ok:]
		if err != nil && !s.nt.fate(err, letterOf(&batch[0])) {
			batch = batch[1:]
		}
	}
}

// spread sends records, whose keys are in s.keys, to their workers.
func (s *exchangeSender[K, T]) spread(batch []Record[T]) {
	keys, hashes := s.keys[:len(batch)], s.hashes[:len(batch)]
	s.code.hashAll(keys, hashes)
	n := uint64(len(s.pending))
	for i := range batch {
		w := hashes[i] % KeyGroups * n / KeyGroups
		p := s.pending[w]
		if p == nil {
			p = s.batch(int(w))
		}
		p.recs = append(p.recs, batch[i])
		p.hashes = append(p.hashes, hashes[i])
		if len(p.recs) >= MaxBatch {
			s.send(int(w))
		}
	}
}

func (s *exchangeSender[K, T]) batch(w int) *exchangeBatch[K, T] {
	var p *exchangeBatch[K, T]
	select {
	case p = <-s.free:
	default:
		p = &exchangeBatch[K, T]{free: s.free, recs: make([]Record[T], 0, MaxBatch), hashes: make([]uint64, 0, MaxBatch)}
	}
	p.w, p.in = s.workers[w], s.in
	s.pending[w] = p
	return p
}

func (s *exchangeSender[K, T]) mark(m mark) {
	if s.t.err != nil || m.kind == markSilent {
		return
	}
	for w := range s.pending {
		p := s.pending[w]
		if p == nil {
			p = s.batch(w)
		}
		p.marks = append(p.marks, posMark{len(p.recs), m})
	}
}

func (s *exchangeSender[K, T]) send(w int) {
	p := s.pending[w]
	s.pending[w] = nil
	s.t.u.post(s.x.tasks[w], p)
}

// flush sends what is there: at the end of each message of the task.
func (s *exchangeSender[K, T]) flush() {
	for w, p := range s.pending {
		if p != nil {
			s.send(w)
		}
	}
}

// The merged watermarks of an exchange are stored once, for all workers: at an epoch all have seen the same marks.

func (e *engine) valveKey(owner string) []byte {
	return binary.BigEndian.AppendUint16([]byte{prefixValve}, e.nodeID(owner))
}

func (x *exchange) collect(u *unit, w *changes) {
	if x.moved != "" {
		w.begin(u.valveKey(x.moved))
		w.delete()
		x.moved = ""
	}
	v := &x.gates[0].valve
	w.begin(u.valveKey(x.owner))
	w.value()
	w.appendUint64(uint64(v.out))
	w.buf = append(w.buf, flag(v.some)|flag(v.idle)<<1)
	for name, i := range x.ins {
		in := v.in[i]
		if in.gone {
			continue
		}
		w.buf = binary.AppendUvarint(w.buf, uint64(len(name)))
		w.buf = append(w.buf, name...)
		w.appendUint64(uint64(in.wm))
		w.buf = append(w.buf, flag(in.idle)|flag(in.aligned)<<1)
	}
	w.put()
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// restore reads the stored watermarks. The output never falls; an input takes its own up when its partition is assigned again.
func (x *exchange) restore(u *unit) error {
	var b []byte
	for _, name := range x.nodes { // the owner first; another one where a node was put in front
		v, ok, err := u.db.Get(u.valveKey(name))
		if err != nil {
			return err
		}
		if ok {
			b = v
			if name != x.owner {
				x.moved = name
			}
			break
		}
	}
	if b == nil {
		return nil
	}
	bad := fmt.Errorf("watermarks of %q: %w", x.owner, errCorrupt)
	if len(b) < 9 {
		return bad
	}
	out, flags := Timestamp(binary.BigEndian.Uint64(b)), b[8]
	b = b[9:]
	type input struct {
		name string
		in   valveInput
	}
	var ins []input
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || uint64(len(b)-w) < n+9 {
			return bad
		}
		name := string(b[w : w+int(n)])
		b = b[w+int(n):]
		ins = append(ins, input{name, valveInput{wm: Timestamp(binary.BigEndian.Uint64(b)), idle: b[8]&1 != 0, aligned: b[8]&2 != 0}})
		b = b[9:]
	}
	x.restored = map[string]valveInput{}
	for _, in := range ins {
		x.restored[in.name] = in.in
	}
	for _, g := range x.gates {
		g.valve.out, g.valve.some = out, flags&1 != 0
	}
	return nil
}
