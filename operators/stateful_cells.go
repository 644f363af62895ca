package operators

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/agg"
)

// cells keep one A per key, with the times that Reduce, Scan, Stateful and the outlier filters need. An A of numbers, bools, strings,
// times, arrays and structs of them lies in flat memory by slot and is stored by pages; any other is an entry of its own, as CBOR.
type cells[K comparable, A any] struct {
	// ttl forgets keys that were not touched for so long, 0 never.
	ttl time.Duration
	// timed is set where there is a ttl or there are timers: only then there are heads.
	timed bool

	keys    flow.Keys[K]
	table   flow.Table
	part    *flow.Part
	heads   []head
	present []uint16   // a bit for each slot of a block
	base    []agg.Slot // where a block's values are, plus 1
	flat    agg.Store[struct{}, *A]
	entries flow.State[K, A]
	due     dueTimes
	wm      flow.Timestamp
	slots   []agg.Slot
}

// head are the times of a key.
type head struct {
	touched flow.Timestamp
	timer   flow.Timestamp // None: not set
	clock   flow.Timestamp // None: not set
	queued  flow.Timestamp // the key has a place in due that is not later; EndOfTime if it may have none
}

var emptyHead = head{flow.None, flow.None, flow.None, flow.EndOfTime}

// isFlat tells whether values of a type can be copied by assignment.
func isFlat(t reflect.Type) bool {
	if t == reflect.TypeFor[time.Time]() {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return true
	case reflect.Array:
		return isFlat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}

// storable reports why values of type A cannot be state.
func storable[A any](cfg *flow.NodeConfig) {
	if isFlat(reflect.TypeFor[A]()) {
		return
	}
	if _, err := codec.CBOR[A]().Append(nil, new(A)); err != nil {
		cfg.Problem(fmt.Sprintf("its state cannot be stored: %v", err), "")
	}
}

func (c *cells[K, A]) open(rt flow.Runtime) (err error) {
	if err = flow.OpenKeys(rt, &c.keys); err != nil {
		return err
	}
	if c.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	if isFlat(reflect.TypeFor[A]()) {
		c.flat = agg.Func(func(*A, struct{}) {}, func(_, _ *A) {}, func(a *A) *A { return a }).NewStore()
	}
	c.part = &flow.Part{} // while pages are read
	if err = flow.OpenTable(rt, "cells", &c.table, c); err != nil {
		return err
	}
	c.part = c.table.Part(0)
	if c.flat != nil {
		return nil
	}
	return flow.OpenState(rt, "values", &c.entries)
}

// has tells whether a key has a value.
func (c *cells[K, A]) has(key flow.Slot) bool {
	block := int(key / agg.BlockSize)
	return block < len(c.present) && c.present[block]>>(key%agg.BlockSize)&1 != 0
}

// get returns a key's value to be changed in place, zero where there was none. It is good until the key's next get or drop.
func (c *cells[K, A]) get(key flow.Slot) *A {
	if !c.has(key) {
		c.add(key)
	}
	if c.flat == nil {
		return c.entries.Get(c.keys.Key(key))
	}
	c.part.Touch(key.Page())
	return c.flat.Result(c.at(key))
}

func (c *cells[K, A]) at(key flow.Slot) agg.Slot {
	return c.base[key/agg.BlockSize] - 1 + agg.Slot(key%agg.BlockSize)
}

func (c *cells[K, A]) add(key flow.Slot) {
	block := int(key / agg.BlockSize)
	if block >= len(c.present) {
		n := max(c.keys.Cap()/agg.BlockSize, block+1)
		c.present = append(c.present, make([]uint16, n-len(c.present))...)
		c.base = append(c.base, make([]agg.Slot, n-len(c.base))...)
		if c.timed {
			c.heads = append(c.heads, make([]head, n*agg.BlockSize-len(c.heads))...)
		}
	}
	if c.present[block] == 0 && c.flat != nil {
		c.base[block] = c.flat.AllocBlock() + 1
	}
	c.present[block] |= 1 << (key % agg.BlockSize)
	if c.timed {
		c.heads[key] = emptyHead
	}
	c.keys.Retain(key)
	c.part.Touch(key.Page())
}

// drop forgets a key.
func (c *cells[K, A]) drop(key flow.Slot) {
	if !c.has(key) {
		return
	}
	block := key / agg.BlockSize
	c.present[block] &^= 1 << (key % agg.BlockSize)
	switch {
	case c.flat == nil:
		c.entries.Delete(c.keys.Key(key))
	case c.present[block] == 0:
		c.flat.FreeBlock(c.base[block] - 1)
		c.base[block] = 0
	default:
		c.flat.Empty(c.at(key))
	}
	c.keys.Release(key)
	c.part.Touch(key.Page())
}

// touch notes that a key was used at a moment of event time: of a record, the watermark if that is later.
func (c *cells[K, A]) touch(key flow.Slot, at flow.Timestamp) {
	if c.ttl == 0 {
		return
	}
	h := &c.heads[key]
	if at > h.touched {
		h.touched = at
		c.part.Touch(key.Page())
	}
	if h.queued == flow.EndOfTime {
		c.queue(key)
	}
}

// next is when something happens to a key: its timer, or, where none is set that it waits for, its end.
func (c *cells[K, A]) next(h *head) flow.Timestamp {
	switch {
	case h.timer != flow.None:
		return h.timer
	case h.clock == flow.None && c.ttl > 0:
		return h.touched.Add(c.ttl)
	}
	return flow.EndOfTime
}

// queue puts a key into due, unless it has an earlier place there, at which it is put off again.
func (c *cells[K, A]) queue(key flow.Slot) {
	h := &c.heads[key]
	if at := c.next(h); at < h.queued {
		h.queued = at
		c.due.add(dueTime{at, c.keys.Group(key.Page()), key})
	}
}

// pop returns the next key whose timer is due at the watermark wm, and forgets those that were not touched for the ttl on the way.
func (c *cells[K, A]) pop(wm flow.Timestamp) (key flow.Slot, at flow.Timestamp, ok bool) {
	for {
		d, ok := c.due.pop(wm)
		if !ok {
			return 0, 0, false
		}
		if !c.has(d.key) {
			continue
		}
		h := &c.heads[d.key]
		h.queued = flow.EndOfTime
		switch {
		case c.next(h) > d.at: // it was put off
			c.queue(d.key)
		case h.timer != flow.None:
			return d.key, d.at, true
		default:
			c.drop(d.key)
		}
	}
}

// expire forgets the keys that were not touched for the ttl, where there are no timers.
func (c *cells[K, A]) expire(wm flow.Timestamp) {
	c.wm = max(c.wm, wm)
	if c.ttl > 0 && wm != flow.EndOfTime {
		c.pop(wm)
	}
}

const withHeads = 1

// AppendPage implements flow.PageStore: a bit for each key, what the keys hold, their times, their values.
func (c *cells[K, A]) AppendPage(b []byte, _ int64, page uint32) []byte {
	live := c.live(page)
	if live == 0 {
		return b
	}
	kind := byte(0)
	if c.timed {
		kind |= withHeads
	}
	b = append(b, kind)
	b = binary.LittleEndian.AppendUint64(b, live)
	c.slots = c.slots[:0]
	for ; live != 0; live &= live - 1 {
		key := flow.Slot(page)*flow.PageSize + flow.Slot(bits.TrailingZeros64(live))
		if c.flat != nil {
			c.slots = append(c.slots, c.at(key))
		}
		if c.timed {
			h := &c.heads[key]
			for _, t := range [...]flow.Timestamp{h.touched, h.timer, h.clock} {
				b = binary.LittleEndian.AppendUint64(b, uint64(t))
			}
		}
	}
	if c.flat != nil {
		b = c.flat.Append(b, c.slots)
	}
	return b
}

func (c *cells[K, A]) live(page uint32) (live uint64) {
	const blocks = flow.PageSize / agg.BlockSize
	for i := range blocks {
		if block := int(page)*blocks + i; block < len(c.present) {
			live |= uint64(c.present[block]) << (i * agg.BlockSize)
		}
	}
	return live
}

var errCells = errors.New("stored state is damaged")

// ReadPage implements flow.PageStore.
func (c *cells[K, A]) ReadPage(_ int64, page uint32, b []byte) (err error) {
	if len(b) < 9 {
		return errCells
	}
	kind, live := b[0], binary.LittleEndian.Uint64(b[1:])
	b = b[9:]
	c.slots = c.slots[:0]
	for ; live != 0; live &= live - 1 {
		key := flow.Slot(page)*flow.PageSize + flow.Slot(bits.TrailingZeros64(live))
		c.add(key)
		if c.flat != nil {
			c.slots = append(c.slots, c.at(key))
		}
		// What was stored without times has been touched by now.
		h := emptyHead
		h.touched = c.wm
		if kind&withHeads != 0 {
			if len(b) < 24 {
				return errCells
			}
			for i, t := range [...]*flow.Timestamp{&h.touched, &h.timer, &h.clock} {
				*t = flow.Timestamp(binary.LittleEndian.Uint64(b[8*i:]))
			}
			b = b[24:]
		}
		if c.timed {
			c.heads[key] = h
			c.queue(key)
		}
	}
	if c.flat != nil {
		if b, err = c.flat.Read(b, c.slots); err != nil {
			return err
		}
	}
	if len(b) > 0 {
		return errCells
	}
	return nil
}

// Fingerprint implements flow.PageStore.
func (c *cells[K, A]) Fingerprint() string {
	if c.flat == nil {
		return "cells"
	}
	return "cells/" + c.flat.Fingerprint()
}
