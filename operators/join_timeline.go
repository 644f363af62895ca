package operators

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// timeline keeps the records of one input of a join: in memory by key, sorted by time and arrival, and in the store as a log. Time is cut
// into buckets; what an epoch adds is appended to the log of its bucket and page of 64 keys, and a bucket is deleted whole. So a record is
// written once (or again with the few of its page that make a chunk too small to be closed), however many its key has.
type timeline[T any] struct {
	width flow.Timestamp
	code  stored[T]
	print string
	keys  slotHolder
	table flow.Table
	// durable: there is a store, so a log is kept.
	durable bool
	of      [][]entry[T] // by key
	buckets map[int64]*bucket
	order   []*bucket // by time
	last    *bucket   // of the record before
	n       int
	// spare are buckets to be used again, pool the lists of keys that have become empty.
	spare []*bucket
	pool  [][]entry[T]
	// restored says what becomes of an entry that is read back; false leaves it out.
	restored func(key flow.Slot, e *entry[T]) bool
}

// entry is one record.
type entry[T any] struct {
	at    flow.Timestamp
	flags uint8
	v     T
}

const (
	// onEdge: when the record came, the watermark stood just where it frees the record.
	onEdge = 1 << iota
	// hasPartner: the record has been joined.
	hasPartner
)

// slotHolder is flow.Keys without its type.
type slotHolder interface {
	Retain(flow.Slot)
	Release(flow.Slot)
	Cap() int
}

// bucket is a stretch of time.
type bucket struct {
	number      int64
	start, last flow.Timestamp // both in it
	// keys have records here, some perhaps more than once. Each place holds its key, whose slot the log names.
	keys  []flow.Slot
	tails []tail       // by page
	parts []*flow.Part // by chunk
	// chunks is how many numbers of chunks are in use.
	chunks int64
}

// tail is the chunk of a page's log that is being written.
type tail struct {
	buf    []byte
	items  int
	chunk  int64
	closed bool
}

const (
	// closeAt is how many items close a chunk when it is collected: until then it is written again with each epoch that adds to it.
	closeAt = 16
	// chunkBits are the low bits of a part's number, for the chunk; the bucket's number is above. Buckets of minWidth fill the rest.
	chunkBits = 20
	lastChunk = 1<<chunkBits - 1
	poolCap   = 16
	poolSize  = 4096
	minWidth  = flow.Timestamp(250 * time.Millisecond)
)

// kinds of log items.
const (
	itemRecord  = 0
	itemPartner = 1 // an earlier item has found its partner
)

var errTimeline = errors.New("stored records of a join are damaged")

// bucketWidth is the width of buckets for records that are kept for a time.
func bucketWidth(keep flow.Timestamp) flow.Timestamp { return max(keep/8, minWidth) }

// open opens the timeline under a name; the keys must be open. print is what else must stay as it was.
func (t *timeline[T]) open(rt flow.Runtime, name, print string, keys slotHolder) error {
	t.keys, t.buckets, t.print = keys, map[int64]*bucket{}, print
	if err := flow.OpenTable(rt, name, &t.table, t); err != nil {
		return err
	}
	// A table without a store makes a new handle at each call.
	handle := t.table.Part(0)
	t.durable = t.table.Part(0) == handle
	return nil
}

// at are a key's entries.
func (t *timeline[T]) at(key flow.Slot) []entry[T] {
	if int(key) >= len(t.of) {
		return nil
	}
	return t.of[key]
}

// between are a key's entries, and which of them lie in a span of time, both ends included.
func (t *timeline[T]) between(key flow.Slot, from, to flow.Timestamp) (es []entry[T], i, j int) {
	es = t.at(key)
	if n := len(es); n == 0 || es[n-1].at < from || es[0].at > to {
		return nil, 0, 0
	}
	i = search(es, from)
	j = len(es)
	if es[j-1].at > to {
		j = i + sort.Search(len(es)-i, func(k int) bool { return es[i+k].at > to })
	}
	return es, i, j
}

// search is the place of the first entry that is not before at.
func search[T any](es []entry[T], at flow.Timestamp) int {
	return sort.Search(len(es), func(i int) bool { return es[i].at >= at })
}

func (t *timeline[T]) bucket(at flow.Timestamp) *bucket {
	if b := t.last; b != nil && b.start <= at && at <= b.last {
		return b
	}
	number := int64(at / t.width)
	if at%t.width < 0 {
		number--
	}
	t.last = t.numbered(number)
	return t.last
}

func (t *timeline[T]) numbered(number int64) *bucket {
	if b := t.buckets[number]; b != nil {
		return b
	}
	b := &bucket{}
	if n := len(t.spare); n > 0 {
		b, t.spare = t.spare[n-1], t.spare[:n-1]
	}
	b.number, b.start = number, flow.Timestamp(number)*t.width
	if number < 0 && b.start > 0 {
		b.start = flow.None + 1
	}
	if b.last = flow.Timestamp(number)*t.width + (t.width - 1); number > 0 && b.last < b.start {
		b.last = flow.EndOfTime
	}
	t.buckets[number] = b
	i, _ := slices.BinarySearchFunc(t.order, number, func(b *bucket, n int64) int { return cmp.Compare(b.number, n) })
	t.order = slices.Insert(t.order, i, b)
	return b
}

// add takes a record.
func (t *timeline[T]) add(key flow.Slot, at flow.Timestamp, flags uint8, v *T) error {
	b := t.bucket(at)
	if t.durable {
		if err := t.log(b, key, at, flags, v); err != nil {
			return err
		}
	}
	t.insert(b, key, entry[T]{at, flags, *v})
	return nil
}

func (t *timeline[T]) insert(b *bucket, key flow.Slot, e entry[T]) {
	if int(key) >= len(t.of) {
		t.of = append(t.of, make([][]entry[T], max(t.keys.Cap(), int(key)+1)-len(t.of))...)
	}
	es := t.of[key]
	if n := len(t.pool); es == nil && n > 0 {
		es, t.pool[n-1], t.pool = t.pool[n-1], nil, t.pool[:n-1]
	}
	i := len(es)
	if i > 0 && es[i-1].at > e.at {
		i = sort.Search(len(es), func(i int) bool { return es[i].at > e.at })
	}
	if (i == 0 || es[i-1].at < b.start) && (i == len(es) || es[i].at > b.last) {
		t.hold(b, key)
	}
	if i == len(es) {
		t.of[key] = append(es, e)
	} else {
		t.of[key] = slices.Insert(es, i, e)
	}
	t.n++
}

func (t *timeline[T]) hold(b *bucket, key flow.Slot) {
	b.keys = append(b.keys, key)
	t.keys.Retain(key)
}

// trim forgets the first n entries of a key.
func (t *timeline[T]) trim(key flow.Slot, n int) {
	if n == 0 {
		return
	}
	es := t.of[key]
	t.n -= n
	left := len(es) - n
	switch {
	case left == 0:
		t.of[key] = nil
		if clear(es); cap(es) <= poolCap && len(t.pool) < poolSize {
			t.pool = append(t.pool, es[:0])
		}
	case cap(es) > 4*left+16:
		t.of[key] = slices.Clone(es[n:])
	default:
		copy(es, es[n:])
		clear(es[left:])
		t.of[key] = es[:left]
	}
}

// drop forgets the buckets, from the earliest on, that are over. visit, if it is not nil, sees the last entry of each key in a bucket.
func (t *timeline[T]) drop(over func(last flow.Timestamp) bool, visit func(key flow.Slot, e *entry[T])) {
	n := 0
	for _, b := range t.order {
		if !over(b.last) {
			break
		}
		n++
		for _, key := range b.keys {
			es := t.at(key)
			gone := len(es)
			if gone > 0 && es[gone-1].at > b.last {
				gone = sort.Search(len(es), func(i int) bool { return es[i].at > b.last })
			}
			if visit != nil && gone > 0 {
				visit(key, &es[gone-1])
			}
			t.trim(key, gone)
			t.keys.Release(key)
		}
		for c := range b.chunks {
			t.table.Drop(b.part(c))
		}
		delete(t.buckets, b.number)
		b.empty()
		t.spare = append(t.spare, b)
	}
	if n > 0 {
		t.last = nil
		t.order = slices.Delete(t.order, 0, n)
	}
}

// empty makes the bucket one to be used again.
func (b *bucket) empty() {
	if b.chunks > 0 {
		for i := range b.tails {
			l := &b.tails[i]
			*l = tail{buf: reusable(l.buf)}
		}
	}
	clear(b.parts)
	b.keys, b.parts, b.chunks = b.keys[:0], b.parts[:0], 0
}

// reusable is a buffer to be filled again, if it is not too large to be kept.
func reusable(b []byte) []byte {
	if cap(b) > 4096 {
		return nil
	}
	return b[:0]
}

func (b *bucket) part(chunk int64) int64 { return b.number<<chunkBits | chunk }

// tail returns the chunk to append to, which is written with the epoch.
func (t *timeline[T]) tail(b *bucket, page uint32) *tail {
	if int(page) >= len(b.tails) {
		b.tails = append(b.tails, make([]tail, max(t.keys.Cap()/flow.PageSize, int(page)+1)-len(b.tails))...)
	}
	l := &b.tails[page]
	if l.closed {
		l.chunk, l.items, l.closed = l.chunk+1, 0, false
	}
	for b.chunks <= l.chunk {
		b.parts = append(b.parts, t.table.Part(b.part(b.chunks)))
		b.chunks++
	}
	b.parts[l.chunk].Touch(page)
	return l
}

func (t *timeline[T]) log(b *bucket, key flow.Slot, at flow.Timestamp, flags uint8, v *T) (err error) {
	l := t.tail(b, key.Page())
	buf := l.buf
	buf = append(buf, byte(key%flow.PageSize), itemRecord, flags)
	buf = binary.AppendUvarint(buf, uint64(at-b.start))
	if buf, err = t.code.append(buf, v); err != nil {
		return err
	}
	l.buf = buf
	l.items++
	return nil
}

// partner notes that a key's entry i has been joined.
func (t *timeline[T]) partner(key flow.Slot, i int) {
	es := t.of[key]
	es[i].flags |= hasPartner
	if !t.durable {
		return
	}
	at := es[i].at
	b := t.bucket(at)
	l := t.tail(b, key.Page())
	l.buf = append(l.buf, byte(key%flow.PageSize), itemPartner)
	l.buf = binary.AppendUvarint(l.buf, uint64(at-b.start))
	l.buf = binary.AppendUvarint(l.buf, uint64(i-search(es, at)))
	l.items++
}

// AppendPage implements flow.PageStore.
func (t *timeline[T]) AppendPage(b []byte, part int64, page uint32) []byte {
	of := t.buckets[part>>chunkBits]
	if of == nil {
		return b
	}
	l := &of.tails[page]
	b = append(b, l.buf...)
	if l.items >= closeAt && l.chunk < lastChunk {
		l.closed, l.buf = true, reusable(l.buf)
	}
	return b
}

// ReadPage implements flow.PageStore. Chunks come in the order in which they were written.
func (t *timeline[T]) ReadPage(part int64, page uint32, data []byte) (err error) {
	b := t.numbered(part >> chunkBits)
	chunk := part & lastChunk
	for b.chunks <= chunk {
		b.parts = append(b.parts, t.table.Part(b.part(b.chunks)))
		b.chunks++
	}
	if int(page) >= len(b.tails) {
		b.tails = append(b.tails, make([]tail, int(page)+1-len(b.tails))...)
	}
	b.tails[page] = tail{chunk: chunk, closed: true}
	if chunk == lastChunk {
		b.tails[page] = tail{chunk: chunk, buf: slices.Clone(data)}
	}
	for len(data) > 0 {
		if data, err = t.readItem(b, page, data); err != nil {
			return err
		}
	}
	return nil
}

func (t *timeline[T]) readItem(b *bucket, page uint32, data []byte) ([]byte, error) {
	if len(data) < 3 || data[0] >= flow.PageSize {
		return nil, errTimeline
	}
	key := flow.Slot(page)*flow.PageSize + flow.Slot(data[0])
	kind, e := data[1], entry[T]{}
	data = data[2:]
	if kind == itemRecord {
		e.flags, data = data[0], data[1:]
	}
	since, w := binary.Uvarint(data)
	if w <= 0 {
		return nil, errTimeline
	}
	if data, e.at = data[w:], b.start+flow.Timestamp(since); e.at < b.start || e.at > b.last {
		return nil, errTimeline
	}
	switch kind {
	case itemPartner:
		nth, w := binary.Uvarint(data)
		es := t.at(key)
		i := search(es, e.at)
		if w <= 0 {
			return nil, errTimeline
		}
		if uint64(len(es)-i) > nth && es[i+int(nth)].at == e.at {
			es[i+int(nth)].flags |= hasPartner
		}
		return data[w:], nil
	case itemRecord:
		rest, err := t.code.read(data, &e.v)
		if err != nil {
			return nil, err
		}
		if t.restored != nil && !t.restored(key, &e) {
			t.hold(b, key)
			return rest, nil
		}
		t.insert(b, key, e)
		return rest, nil
	}
	return nil, errTimeline
}

// Fingerprint implements flow.PageStore.
func (t *timeline[T]) Fingerprint() string {
	return fmt.Sprintf("timeline/%v/%s/%s", time.Duration(t.width), t.print, t.code.id())
}
