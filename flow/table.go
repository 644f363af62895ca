package flow

import (
	"encoding/binary"
	"fmt"
)

// PageStore is a dense table that an operator keeps by slot and the engine persists by page: parts (window starts, 0 where there
// is just one) of pages of 64 slots.
type PageStore interface {
	// AppendPage appends the page's contents to b; nothing appended means that the page is empty and is deleted. It is called for
	// touched pages when an epoch is collected.
	AppendPage(b []byte, part int64, page uint32) []byte
	// ReadPage restores a page. b is valid during the call only.
	ReadPage(part int64, page uint32, b []byte) error
	// Fingerprint names the layout: state written under another one is refused.
	Fingerprint() string
}

// Table is the engine's side of a PageStore.
type Table struct {
	s     *nodeState
	keys  pager
	pages PageStore
	space byte
	parts map[int64]*Part
	dirty []*Part
	drops []int64
	// loading: what is read is what is stored.
	loading bool
}

type pager interface {
	pageInfo(page uint32) pageInfo
	pageAt(group uint16, local uint32) uint32
}

// OpenTable opens a dense table by pages; the keys must be open. What was stored is read back into pages before it returns.
func OpenTable(rt Runtime, name string, t *Table, pages PageStore) error {
	s := rt.n.state()
	k, ok := s.keys.(pager)
	if !ok {
		return fmt.Errorf("table %q: open the keys first", name)
	}
	*t = Table{s: s, keys: k, pages: pages, parts: map[int64]*Part{}}
	t.space = s.nextSpace("table", name, pages.Fingerprint(), t)
	if s.u.db == nil {
		return nil
	}
	t.loading = true
	defer func() { t.loading = false }()
	return s.scan(t.space, func(rest, value []byte) error {
		if len(rest) != 14 {
			return errCorrupt
		}
		part := timeOf(binary.BigEndian.Uint64(rest))
		group := binary.BigEndian.Uint16(rest[8:])
		if int(group) < s.lo || int(group) >= s.hi {
			return nil
		}
		page := k.pageAt(group, binary.BigEndian.Uint32(rest[10:]))
		if err := pages.ReadPage(part, page, value); err != nil {
			return fmt.Errorf("table %q: %w", name, err)
		}
		return nil
	})
}

// Part is one part of a Table: hold it to touch its pages.
type Part struct {
	t     *Table
	part  int64
	dirty dirtyPages
	queue bool
}

// Part returns the handle of a part. It is good until Drop.
func (t *Table) Part(part int64) *Part {
	if t.s.u.db == nil {
		return &Part{}
	}
	p := t.parts[part]
	if p == nil {
		p = &Part{t: t, part: part}
		t.parts[part] = p
	}
	return p
}

// Touch says that a page has changed and is to be written with the epoch.
func (p *Part) Touch(page uint32) {
	if p.t == nil || p.t.loading {
		return
	}
	if !p.queue {
		p.queue = true
		p.t.dirty = append(p.t.dirty, p)
	}
	p.dirty.add(page)
}

// Drop deletes a part with all its pages.
func (t *Table) Drop(part int64) {
	if t.s.u.db == nil {
		return
	}
	if p := t.parts[part]; p != nil {
		p.dirty.take()
		delete(t.parts, part)
	}
	t.drops = append(t.drops, part)
}

func (t *Table) collect(w *changes) {
	for _, part := range t.drops { // before the writes: a part may have come back
		lo, hi := nodePrefix(t.s.id, t.space), nodePrefix(t.s.id, t.space)
		lo = binary.BigEndian.AppendUint64(lo, orderedTime(part))
		hi = binary.BigEndian.AppendUint64(hi, orderedTime(part))
		w.deleteRange(binary.BigEndian.AppendUint16(lo, uint16(t.s.lo)), binary.BigEndian.AppendUint16(hi, uint16(t.s.hi)))
	}
	t.drops = t.drops[:0]
	for _, p := range t.dirty {
		p.queue = false
		for _, page := range p.dirty.take() {
			info := t.keys.pageInfo(page)
			w.space(t.s.id, t.space)
			w.appendUint64(orderedTime(p.part))
			w.buf = binary.BigEndian.AppendUint16(w.buf, info.group)
			w.appendUint32(info.local)
			w.value()
			w.buf = t.pages.AppendPage(w.buf, p.part, page)
			if len(w.buf) == w.split {
				w.delete()
			} else {
				w.put()
			}
		}
	}
	t.dirty = t.dirty[:0]
}
