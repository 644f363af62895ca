package clickhouse

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// column is a buffer of one ClickHouse column in ch-go's representation, that can also be cut, merged and read back.
type column interface {
	proto.ColInput
	proto.Stateful
	proto.Preparable
	// DecodeColumn reads rows values, replacing what is there.
	DecodeColumn(r *proto.Reader, rows int) error
	// Bytes is about what the values take.
	Bytes() int
	// Truncate keeps the first n rows.
	Truncate(n int)
	// AppendZero appends the type's default n times.
	AppendZero(n int)
	// AppendRows appends rows [from, to) of a column of the same type.
	AppendRows(src column, from, to int)
	Reset()
	// AppendJSON appends one value in a form that a person can read.
	AppendJSON(b []byte, row int) []byte
}

// plain is embedded by columns without a prefix in the stream.
type plain struct{}

func (plain) EncodeState(*proto.Buffer)       {}
func (plain) DecodeState(*proto.Reader) error { return nil }
func (plain) Prepare() error                  { return nil }

// fixed holds values of one width: numbers, times, enums, UUIDs.
type fixed[W any] struct {
	plain
	data []W
	kind fixedKind[W]
	typ  typeName
}

// fixedKind is what differs between the types of one width.
type fixedKind[W any] struct {
	size   int
	encode func(d []W, b *proto.Buffer)
	decode func(d *[]W, r *proto.Reader, rows int) error
	json   func(b []byte, v W, t typeName) []byte
}

func (c *fixed[W]) Type() proto.ColumnType            { return proto.ColumnType(c.typ.full) }
func (c *fixed[W]) Rows() int                         { return len(c.data) }
func (c *fixed[W]) Bytes() int                        { return len(c.data) * c.kind.size }
func (c *fixed[W]) Truncate(n int)                    { c.data = c.data[:n] }
func (c *fixed[W]) Reset()                            { c.data = c.data[:0] }
func (c *fixed[W]) EncodeColumn(b *proto.Buffer)      { c.kind.encode(c.data, b) }
func (c *fixed[W]) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }
func (c *fixed[W]) AppendJSON(b []byte, i int) []byte { return c.kind.json(b, c.data[i], c.typ) }

func (c *fixed[W]) DecodeColumn(r *proto.Reader, rows int) error {
	return c.kind.decode(&c.data, r, rows)
}

func (c *fixed[W]) AppendZero(n int) {
	var zero W
	for range n {
		c.data = append(c.data, zero)
	}
}

func (c *fixed[W]) AppendRows(src column, from, to int) {
	c.data = append(c.data, src.(*fixed[W]).data[from:to]...)
}

// text holds String.
type text struct {
	plain
	data proto.ColStr
}

func (c *text) Type() proto.ColumnType            { return c.data.Type() }
func (c *text) Rows() int                         { return len(c.data.Pos) }
func (c *text) Bytes() int                        { return len(c.data.Buf) + len(c.data.Pos) }
func (c *text) Reset()                            { c.data.Reset() }
func (c *text) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }
func (c *text) AppendJSON(b []byte, i int) []byte { return appendQuoted(b, c.data.RowBytes(i)) }

func (c *text) EncodeColumn(b *proto.Buffer) {
	b.Buf = slices.Grow(b.Buf, c.Bytes())
	c.data.EncodeColumn(b)
}

func (c *text) DecodeColumn(r *proto.Reader, rows int) error {
	c.data.Reset()
	return c.data.DecodeColumn(r, rows)
}

func (c *text) Truncate(n int) {
	c.data.Pos = c.data.Pos[:n]
	end := 0
	if n > 0 {
		end = c.data.Pos[n-1].End
	}
	c.data.Buf = c.data.Buf[:end]
}

func (c *text) AppendZero(n int) {
	for range n {
		c.data.AppendBytes(nil)
	}
}

func (c *text) AppendRows(src column, from, to int) {
	if from == to {
		return
	}
	s := &src.(*text).data
	start := s.Pos[from].Start
	shift := len(c.data.Buf) - start
	c.data.Buf = append(c.data.Buf, s.Buf[start:s.Pos[to-1].End]...)
	c.data.Pos = slices.Grow(c.data.Pos, to-from)
	for _, p := range s.Pos[from:to] {
		c.data.Pos = append(c.data.Pos, proto.Position{Start: p.Start + shift, End: p.End + shift})
	}
}

// fixedText holds FixedString(n).
type fixedText struct {
	plain
	data proto.ColFixedStr
}

func (c *fixedText) Type() proto.ColumnType            { return c.data.Type() }
func (c *fixedText) Rows() int                         { return c.data.Rows() }
func (c *fixedText) Bytes() int                        { return len(c.data.Buf) }
func (c *fixedText) Reset()                            { c.data.Reset() }
func (c *fixedText) Truncate(n int)                    { c.data.Buf = c.data.Buf[:n*c.data.Size] }
func (c *fixedText) EncodeColumn(b *proto.Buffer)      { c.data.EncodeColumn(b) }
func (c *fixedText) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }
func (c *fixedText) AppendJSON(b []byte, i int) []byte { return appendQuoted(b, c.data.Row(i)) }

func (c *fixedText) DecodeColumn(r *proto.Reader, rows int) error {
	return c.data.DecodeColumn(r, rows)
}

func (c *fixedText) AppendZero(n int) {
	c.data.Buf = append(c.data.Buf, make([]byte, n*c.data.Size)...)
}

func (c *fixedText) AppendRows(src column, from, to int) {
	n := c.data.Size
	c.data.Buf = append(c.data.Buf, src.(*fixedText).data.Buf[from*n:to*n]...)
}

// symbols holds LowCardinality(String): a dictionary and one number per row. The dictionary copies what it keeps.
type symbols struct {
	dict map[string]uint32
	text text
	keys []uint32
	wire proto.ColLowCardinalityRaw
}

func newSymbols() *symbols {
	c := &symbols{dict: map[string]uint32{}}
	c.wire.Index = &c.text.data
	return c
}

func (c *symbols) Type() proto.ColumnType            { return "LowCardinality(String)" }
func (c *symbols) Rows() int                         { return len(c.keys) }
func (c *symbols) Bytes() int                        { return c.text.Bytes() + 2*len(c.keys) }
func (c *symbols) Truncate(n int)                    { c.keys = c.keys[:n] }
func (c *symbols) EncodeState(b *proto.Buffer)       { c.wire.EncodeState(b) }
func (c *symbols) DecodeState(r *proto.Reader) error { return c.wire.DecodeState(r) }
func (c *symbols) EncodeColumn(b *proto.Buffer)      { c.wire.EncodeColumn(b) }
func (c *symbols) WriteColumn(w *proto.Writer)       { w.ChainBuffer(c.EncodeColumn) }
func (c *symbols) AppendJSON(b []byte, i int) []byte { return c.text.AppendJSON(b, int(c.keys[i])) }

func (c *symbols) add(v string) {
	k, ok := c.dict[v]
	if !ok {
		k = uint32(len(c.dict))
		c.dict[strings.Clone(v)] = k
		c.text.data.Append(v)
	}
	c.keys = append(c.keys, k)
}

func (c *symbols) AppendZero(n int) {
	for range n {
		c.add("")
	}
}

func (c *symbols) AppendRows(src column, from, to int) {
	s := src.(*symbols)
	to32 := make([]int64, len(s.text.data.Pos)) // key there -> key here + 1
	for _, k := range s.keys[from:to] {
		if to32[k] == 0 {
			c.add(s.text.data.Row(int(k)))
			to32[k] = int64(c.keys[len(c.keys)-1]) + 1
			continue
		}
		c.keys = append(c.keys, uint32(to32[k]-1))
	}
}

func (c *symbols) Reset() {
	clear(c.dict)
	c.text.Reset()
	c.keys = c.keys[:0]
}

// Prepare chooses the narrowest key.
func (c *symbols) Prepare() error {
	w := &c.wire
	w.Keys8, w.Keys16, w.Keys32 = w.Keys8[:0], w.Keys16[:0], w.Keys32[:0]
	switch n := len(c.dict); {
	case n <= math.MaxUint8+1:
		w.Key = proto.KeyUInt8
		for _, k := range c.keys {
			w.Keys8 = append(w.Keys8, uint8(k))
		}
	case n <= math.MaxUint16+1:
		w.Key = proto.KeyUInt16
		for _, k := range c.keys {
			w.Keys16 = append(w.Keys16, uint16(k))
		}
	default:
		w.Key = proto.KeyUInt32
		w.Keys32 = append(w.Keys32, c.keys...)
	}
	return nil
}

func (c *symbols) DecodeColumn(r *proto.Reader, rows int) error {
	c.Reset()
	if rows == 0 {
		return nil
	}
	if err := c.wire.DecodeColumn(r, rows); err != nil {
		return err
	}
	switch c.wire.Key {
	case proto.KeyUInt8:
		for _, k := range c.wire.Keys8 {
			c.keys = append(c.keys, uint32(k))
		}
	case proto.KeyUInt16:
		for _, k := range c.wire.Keys16 {
			c.keys = append(c.keys, uint32(k))
		}
	default:
		c.keys = append(c.keys, c.wire.Keys32...)
	}
	words := c.text.data.Rows()
	for i := range words {
		c.dict[c.text.data.Row(i)] = uint32(i)
	}
	if len(c.keys) != rows || len(c.dict) != words {
		return fmt.Errorf("LowCardinality column with %d keys for %d rows, %d of %d words distinct", len(c.keys), rows, len(c.dict), words)
	}
	for _, k := range c.keys {
		if int(k) >= words {
			return fmt.Errorf("LowCardinality key %d beyond the dictionary of %d", k, words)
		}
	}
	return nil
}
