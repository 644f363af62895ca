package clickhouse

import (
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
)

// nullable holds Nullable(T): a mask beside the values.
type nullable struct {
	mask   proto.ColUInt8
	values column
}

func (c *nullable) Type() proto.ColumnType            { return "Nullable(" + c.values.Type() + ")" }
func (c *nullable) Rows() int                         { return len(c.mask) }
func (c *nullable) Bytes() int                        { return len(c.mask) + c.values.Bytes() }
func (c *nullable) Prepare() error                    { return c.values.Prepare() }
func (c *nullable) EncodeState(b *proto.Buffer)       { c.values.EncodeState(b) }
func (c *nullable) DecodeState(r *proto.Reader) error { return c.values.DecodeState(r) }
func (c *nullable) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }

func (c *nullable) EncodeColumn(b *proto.Buffer) {
	c.mask.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

func (c *nullable) DecodeColumn(r *proto.Reader, rows int) error {
	c.mask = c.mask[:0]
	if err := c.mask.DecodeColumn(r, rows); err != nil {
		return err
	}
	return c.values.DecodeColumn(r, rows)
}

func (c *nullable) Truncate(n int) {
	c.mask = c.mask[:n]
	c.values.Truncate(n)
}

func (c *nullable) Reset() {
	c.mask = c.mask[:0]
	c.values.Reset()
}

// AppendZero appends NULL n times.
func (c *nullable) AppendZero(n int) {
	for range n {
		c.mask = append(c.mask, 1)
	}
	c.values.AppendZero(n)
}

func (c *nullable) AppendRows(src column, from, to int) {
	s := src.(*nullable)
	c.mask = append(c.mask, s.mask[from:to]...)
	c.values.AppendRows(s.values, from, to)
}

func (c *nullable) AppendJSON(b []byte, i int) []byte {
	if c.mask[i] != 0 {
		return append(b, "null"...)
	}
	return c.values.AppendJSON(b, i)
}

// array holds Array(T): where each row ends, and the elements of all rows.
type array struct {
	ends  proto.ColUInt64
	elems column
}

func (c *array) Type() proto.ColumnType            { return "Array(" + c.elems.Type() + ")" }
func (c *array) Rows() int                         { return len(c.ends) }
func (c *array) Bytes() int                        { return 8*len(c.ends) + c.elems.Bytes() }
func (c *array) Prepare() error                    { return c.elems.Prepare() }
func (c *array) EncodeState(b *proto.Buffer)       { c.elems.EncodeState(b) }
func (c *array) DecodeState(r *proto.Reader) error { return c.elems.DecodeState(r) }
func (c *array) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }

func (c *array) EncodeColumn(b *proto.Buffer) {
	c.ends.EncodeColumn(b)
	c.elems.EncodeColumn(b)
}

func (c *array) DecodeColumn(r *proto.Reader, rows int) error {
	total, err := decodeEnds(&c.ends, r, rows)
	if err != nil {
		return err
	}
	return c.elems.DecodeColumn(r, total)
}

func (c *array) Truncate(n int) {
	c.ends = c.ends[:n]
	c.elems.Truncate(lastEnd(c.ends))
}

func (c *array) Reset() {
	c.ends = c.ends[:0]
	c.elems.Reset()
}

func (c *array) AppendZero(n int) { c.ends = appendEnds(c.ends, n) }

func (c *array) AppendRows(src column, from, to int) {
	s := src.(*array)
	first, last := span(s.ends, from, to)
	c.ends = shiftEnds(c.ends, s.ends[from:to], first)
	c.elems.AppendRows(s.elems, first, last)
}

func (c *array) AppendJSON(b []byte, i int) []byte {
	first, last := span(c.ends, i, i+1)
	b = append(b, '[')
	for k := first; k < last; k++ {
		if k > first {
			b = append(b, ',')
		}
		b = c.elems.AppendJSON(b, k)
	}
	return append(b, ']')
}

// dict holds Map(K, V): like two arrays of the same lengths.
type dict struct {
	ends         proto.ColUInt64
	keys, values column
}

func (c *dict) Type() proto.ColumnType {
	return "Map(" + c.keys.Type() + ", " + c.values.Type() + ")"
}
func (c *dict) Rows() int                   { return len(c.ends) }
func (c *dict) Bytes() int                  { return 8*len(c.ends) + c.keys.Bytes() + c.values.Bytes() }
func (c *dict) WriteColumn(w *proto.Writer) { w.ChainBuffer(c.EncodeColumn) }

func (c *dict) Prepare() error {
	if err := c.keys.Prepare(); err != nil {
		return err
	}
	return c.values.Prepare()
}

func (c *dict) EncodeState(b *proto.Buffer) {
	c.keys.EncodeState(b)
	c.values.EncodeState(b)
}

func (c *dict) DecodeState(r *proto.Reader) error {
	if err := c.keys.DecodeState(r); err != nil {
		return err
	}
	return c.values.DecodeState(r)
}

func (c *dict) EncodeColumn(b *proto.Buffer) {
	c.ends.EncodeColumn(b)
	c.keys.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

func (c *dict) DecodeColumn(r *proto.Reader, rows int) error {
	total, err := decodeEnds(&c.ends, r, rows)
	if err != nil {
		return err
	}
	if err := c.keys.DecodeColumn(r, total); err != nil {
		return err
	}
	return c.values.DecodeColumn(r, total)
}

func (c *dict) Truncate(n int) {
	c.ends = c.ends[:n]
	c.keys.Truncate(lastEnd(c.ends))
	c.values.Truncate(lastEnd(c.ends))
}

func (c *dict) Reset() {
	c.ends = c.ends[:0]
	c.keys.Reset()
	c.values.Reset()
}

func (c *dict) AppendZero(n int) { c.ends = appendEnds(c.ends, n) }

func (c *dict) AppendRows(src column, from, to int) {
	s := src.(*dict)
	first, last := span(s.ends, from, to)
	c.ends = shiftEnds(c.ends, s.ends[from:to], first)
	c.keys.AppendRows(s.keys, first, last)
	c.values.AppendRows(s.values, first, last)
}

func (c *dict) AppendJSON(b []byte, i int) []byte {
	first, last := span(c.ends, i, i+1)
	b = append(b, '{')
	for k := first; k < last; k++ {
		if k > first {
			b = append(b, ',')
		}
		at := len(b)
		b = c.keys.AppendJSON(b, k)
		if b[at] != '"' { // JSON's names are strings
			name := string(b[at:])
			b = appendQuoted(b[:at], []byte(name))
		}
		b = append(b, ':')
		b = c.values.AppendJSON(b, k)
	}
	return append(b, '}')
}

func lastEnd(ends proto.ColUInt64) int {
	if len(ends) == 0 {
		return 0
	}
	return int(ends[len(ends)-1])
}

// appendEnds appends n empty rows.
func appendEnds(ends proto.ColUInt64, n int) proto.ColUInt64 {
	last := uint64(lastEnd(ends))
	for range n {
		ends = append(ends, last)
	}
	return ends
}

// span is where the elements of rows [from, to) lie.
func span(ends proto.ColUInt64, from, to int) (first, last int) {
	return lastEnd(ends[:from]), lastEnd(ends[:to])
}

// shiftEnds appends the ends of rows whose elements started at first there and start at the end here.
func shiftEnds(ends, more proto.ColUInt64, first int) proto.ColUInt64 {
	base := uint64(lastEnd(ends))
	for _, e := range more {
		ends = append(ends, e-uint64(first)+base)
	}
	return ends
}

func decodeEnds(ends *proto.ColUInt64, r *proto.Reader, rows int) (total int, err error) {
	*ends = (*ends)[:0]
	if err := ends.DecodeColumn(r, rows); err != nil {
		return 0, err
	}
	last := uint64(0)
	for _, e := range *ends {
		if e < last || e > maxDecodeRows {
			return 0, fmt.Errorf("array ends at %d after %d", e, last)
		}
		last = e
	}
	return int(last), nil
}
