// Package csv reads and writes rows of comma-separated values (RFC 4180) as structs.
package csv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"

	"github.com/millrace-stream/millrace/flow/codec"
)

// Option configures a codec.
type Option func(*config)

type config struct {
	header  bool
	loose   bool
	columns []string
	comma   rune
	comment rune
}

// Header says that each payload begins with a line of column names, in any order. Without it columns stand as in Columns.
func Header() Option { return func(c *config) { c.header = true } }

// Columns names the columns in their order. Defaults to the struct's fields in theirs. With Header it is the order that Append writes.
func Columns(names ...string) Option { return func(c *config) { c.columns = names } }

// Loose passes over columns that the struct does not have, and leaves fields zero whose columns a header does not have. Without it both are
// errors.
func Loose() Option { return func(c *config) { c.loose = true } }

// Comma sets the separator. Defaults to ','.
func Comma(r rune) Option { return func(c *config) { c.comma = r } }

// Comment sets the character with which lines begin that are passed over. Defaults to none.
func Comment(r rune) Option { return func(c *config) { c.comment = r } }

// Codec reads payloads of one row (behind the header, with Header); more rows are codec.ErrTrailing. T is a struct.
//
// A column's name is the tag csv, else the field's name. Fields are strings, booleans, numbers, time.Time, types that marshal themselves as
// text, and pointers to these, nil for an empty cell. An empty cell of any other field but a string is an error unless its tag says
// csv:"name,omitempty". A time is RFC 3339, or by the tag codec:"s", "ms", "us" or "ns" a whole number since 1970.
//
// Errors name line, byte and column, and the text that does not fit, cut to 40 bytes. A row with more or fewer cells than columns is an error.
// Numbers must fit their type and be finite; spaces are not cut off. Text is taken as it is, whatever its bytes; a byte order mark at the
// beginning is passed over. Decode allocates in proportion to the payload and keeps nothing of it.
//
// Append fails on text with CR LF in it, since readers make LF of that.
func Codec[T any](opts ...Option) codec.Codec[T] { return single[T]{newTable[T](opts)} }

// Batch reads payloads of any number of rows; for the rest it is as Codec. A payload with a wrong row is rejected as a whole. Each emits the
// rows one by one.
func Batch[T any](opts ...Option) codec.Codec[[]T] { return batch[T]{newTable[T](opts)} }

// Each emits the rows of a batch one by one: operators.FlatMap(batches, "rows", csv.Each).
func Each[T any](_ context.Context, rows []T, emit func(T)) error {
	for _, r := range rows {
		emit(r)
	}
	return nil
}

// table is how a struct is read and written.
type table struct {
	config
	cells   []cell // the struct's fields
	byName  map[string]int
	order   []int // fields by column, without a header; -1 is passed over
	err     error
	buffers *sync.Pool
}

func newTable[T any](opts []Option) *table {
	t := &table{config: config{comma: ','}, buffers: &sync.Pool{New: func() any { return bufio.NewReader(nil) }}}
	for _, o := range opts {
		o(&t.config)
	}
	if t.cells, t.err = cellsOf(reflect.TypeFor[T]()); t.err != nil {
		return t
	}
	t.byName = make(map[string]int, len(t.cells))
	for i, c := range t.cells {
		if _, twice := t.byName[c.name]; twice {
			t.err = fmt.Errorf("CSV of %v: two fields have the column %q: rename one by its tag", reflect.TypeFor[T](), c.name)
		}
		t.byName[c.name] = i
	}
	names := t.columns
	if names == nil {
		for _, c := range t.cells {
			names = append(names, c.name)
		}
	}
	if t.err == nil {
		if t.order, t.err = t.match(names); t.err != nil {
			t.err = fmt.Errorf("CSV of %v: %w", reflect.TypeFor[T](), t.err)
		}
	}
	return t
}

// match finds the fields of columns.
func (t *table) match(names []string) ([]int, error) {
	order := make([]int, len(names))
	seen := make(map[string]bool, len(names))
	for i, n := range names {
		f, ok := t.byName[n]
		switch {
		case seen[n]:
			return nil, fmt.Errorf("the column %q comes twice", short(n))
		case !ok && !t.loose:
			return nil, fmt.Errorf("the column %q is not known: give it a field, or pass csv.Loose()", short(n))
		case !ok:
			f = -1
		}
		seen[n] = true
		order[i] = f
	}
	if !t.loose {
		for _, c := range t.cells {
			if !seen[c.name] {
				return nil, fmt.Errorf("the column %q is missing: add it, tag its field csv:\"-\", or pass csv.Loose()", c.name)
			}
		}
	}
	return order, nil
}

// rows calls f for each row, until it returns io.EOF.
func (t *table) rows(data []byte, f func(row []string, order []int, r *csv.Reader) error) error {
	if t.err != nil {
		return t.err
	}
	buf := t.buffers.Get().(*bufio.Reader)
	buf.Reset(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	defer func() {
		buf.Reset(nil) // let go of the payload
		t.buffers.Put(buf)
	}()
	r := csv.NewReader(buf)
	r.Comma, r.Comment, r.FieldsPerRecord, r.ReuseRecord = t.comma, t.comment, -1, true
	order := t.order
	for first := t.header; ; first = false {
		row, err := r.Read()
		switch {
		case err == io.EOF: //nolint:errorlint // encoding/csv returns it as it is
			if first {
				return errors.New("decode CSV: the payload has no header")
			}
			return nil
		case err != nil:
			return fmt.Errorf("decode CSV: %w", err)
		}
		if first {
			if order, err = t.match(row); err != nil {
				return fmt.Errorf("decode CSV: header: %w", err)
			}
			continue
		}
		line, _ := r.FieldPos(0)
		if len(row) != len(order) {
			return fmt.Errorf("decode CSV: line %d has %d cells for %d columns", line, len(row), len(order))
		}
		if err := f(row, order, r); err != nil {
			return err
		}
	}
}

// fill reads a row into a struct.
func (t *table) fill(v reflect.Value, row []string, order []int, r *csv.Reader) error {
	for i, f := range order {
		if f < 0 {
			continue
		}
		c := &t.cells[f]
		if err := c.read(row[i], v.Field(c.index)); err != nil {
			line, at := r.FieldPos(i)
			return fmt.Errorf("decode CSV: line %d, byte %d of it, column %q: %w", line, at, c.name, err)
		}
	}
	return nil
}

func (t *table) id() string {
	id := "csv"
	if t.header {
		id += "/header"
	}
	return id
}

type (
	single[T any] struct{ *table }
	batch[T any]  struct{ *table }
)

func (c single[T]) ID() string { return c.id() }
func (c batch[T]) ID() string  { return c.id() }

func (c single[T]) Decode(data []byte, v *T) error {
	n := 0
	err := c.rows(data, func(row []string, order []int, r *csv.Reader) error {
		if n++; n > 1 {
			line, _ := r.FieldPos(0)
			return fmt.Errorf("decode CSV: line %d: %w: one row per payload is expected, use Batch for more", line, codec.ErrTrailing)
		}
		return c.fill(reflect.ValueOf(v).Elem(), row, order, r)
	})
	if err == nil && n == 0 {
		return errors.New("decode CSV: the payload has no row: nothing to decode")
	}
	return err
}

func (c batch[T]) Decode(data []byte, v *[]T) error {
	*v = []T{}
	return c.rows(data, func(row []string, order []int, r *csv.Reader) error {
		*v = append(*v, *new(T))
		return c.fill(reflect.ValueOf(&(*v)[len(*v)-1]).Elem(), row, order, r)
	})
}

func (c single[T]) Append(b []byte, v *T) ([]byte, error) {
	return c.write(b, 1, func(int) reflect.Value { return reflect.ValueOf(v).Elem() })
}

func (c batch[T]) Append(b []byte, v *[]T) ([]byte, error) {
	return c.write(b, len(*v), func(i int) reflect.Value { return reflect.ValueOf(&(*v)[i]).Elem() })
}

// write appends n rows.
func (t *table) write(b []byte, n int, row func(i int) reflect.Value) ([]byte, error) {
	if t.err != nil {
		return b, t.err
	}
	out := bytes.NewBuffer(b)
	w := csv.NewWriter(out)
	w.Comma = t.comma
	texts := make([]string, len(t.order))
	if t.header {
		names := t.columns
		if names == nil {
			for _, c := range t.cells {
				names = append(names, c.name)
			}
		}
		if err := w.Write(names); err != nil {
			return b, fmt.Errorf("encode CSV: %w", err)
		}
	}
	for i := range n {
		v := row(i)
		for j, f := range t.order {
			texts[j] = ""
			if f < 0 {
				continue
			}
			c := &t.cells[f]
			s, err := c.write(v.Field(c.index))
			if err == nil && strings.Contains(s, "\r\n") {
				err = errors.New("CR LF in a text would be read as LF: replace it before")
			}
			if err != nil {
				return b, fmt.Errorf("encode CSV: row %d, column %q: %w", i+1, c.name, err)
			}
			texts[j] = s
		}
		if err := t.line(w, out, texts); err != nil {
			return b, fmt.Errorf("encode CSV: row %d: %w", i+1, err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return b, fmt.Errorf("encode CSV: %w", err)
	}
	return out.Bytes(), nil
}

// line writes a row. What the writer would leave unquoted and a reader pass over is quoted here: a single empty cell, a comment.
func (t *table) line(w *csv.Writer, out *bytes.Buffer, row []string) error {
	first := ""
	if len(row) > 0 {
		first = row[0]
	}
	comment := t.comment != 0 && strings.HasPrefix(first, string(t.comment))
	if len(row) > 1 && !comment {
		return w.Write(row)
	}
	w.Flush()
	out.WriteString(`"` + strings.ReplaceAll(first, `"`, `""`) + `"`)
	if len(row) < 2 {
		out.WriteByte('\n')
		return w.Error()
	}
	out.WriteRune(t.comma)
	return w.Write(row[1:])
}

// short cuts a text for an error, so that the error does not carry a payload.
func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return strings.Clone(s)
}
