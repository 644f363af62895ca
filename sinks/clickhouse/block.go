package clickhouse

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/millrace-stream/millrace/flow"
)

// block is a sealed piece of one writer's rows, in columns.
type block struct {
	names []string
	cols  []column
	times []flow.Timestamp
	rows  int
	bytes int
	token string
	// set owns cols, to be reused when the block is delivered.
	set *buffers
	// alone: the block may be in an outbox, so that its bytes and its token must stay together: it is never merged.
	alone bool
	// planned: the block is part of an insert. done: all of its rows are delivered or refused.
	planned, done bool
	left          int
	rejects       []flow.Reject
}

// Rows is how many rows the block holds.
func (b *block) Rows() int { return b.rows }

// Bytes is about what the block takes in memory.
func (b *block) Bytes() int { return b.bytes }

// schema tells which blocks fit into one insert.
func (b *block) schema() string {
	var s []byte
	for i, c := range b.cols {
		s = append(append(append(append(s, b.names[i]...), 0), c.Type()...), 0)
	}
	return string(s)
}

const blockVersion = 1

var (
	errDelivered = errors.New("clickhouse block is delivered already: its rows are gone")
	errBlock     = errors.New("not a clickhouse block")
)

// AppendBinary encodes the block: names, types, rows and token, compressed by LZ4, with checksums.
func (b *block) AppendBinary(dst []byte) ([]byte, error) {
	if b.done {
		return nil, errDelivered
	}
	b.alone = true
	var head proto.Buffer
	head.PutString(b.token)
	head.PutInt(b.rows)
	for _, t := range b.times {
		head.PutInt64(int64(t))
	}
	w := bytes.NewBuffer(append(dst, 'm', 'c', blockVersion))
	e := newEncoder(LZ4)
	e.buf = head
	if err := e.flush(w, 0); err != nil {
		return nil, err
	}
	if err := e.block(w, b.names, b.cols, b.rows); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// decodeBlock reads what AppendBinary wrote.
func decodeBlock(data []byte) (*block, error) {
	if len(data) < 3 || data[0] != 'm' || data[1] != 'c' {
		return nil, errBlock
	}
	if data[2] != blockVersion {
		return nil, fmt.Errorf("clickhouse block of version %d, this program reads %d: drain the outbox with the program that wrote it", data[2], blockVersion)
	}
	r := proto.NewReader(compress.NewReader(bytes.NewReader(data[3:])))
	b := &block{alone: true}
	if err := b.decode(r); err != nil {
		return nil, fmt.Errorf("clickhouse block: %w", err)
	}
	return b, nil
}

func (b *block) decode(r *proto.Reader) (err error) {
	if b.token, err = r.Str(); err != nil {
		return err
	}
	if b.rows, err = r.Int(); err != nil {
		return err
	}
	if b.rows <= 0 || b.rows > maxDecodeRows {
		return fmt.Errorf("%d rows", b.rows)
	}
	for range b.rows {
		t, err := r.Int64()
		if err != nil {
			return err
		}
		b.times = append(b.times, flow.Timestamp(t))
	}
	columns, err := r.Int()
	if err != nil {
		return err
	}
	rows, err := r.Int()
	if err != nil {
		return err
	}
	if rows != b.rows || columns <= 0 || columns > 1<<16 {
		return fmt.Errorf("%d columns of %d rows for %d rows", columns, rows, b.rows)
	}
	for range columns {
		name, err := r.Str()
		if err != nil {
			return err
		}
		typ, err := r.Str()
		if err != nil {
			return err
		}
		c, err := newColumn(typ)
		if err != nil {
			return err
		}
		if err := c.DecodeState(r); err != nil {
			return fmt.Errorf("column %q: %w", name, err)
		}
		if err := c.DecodeColumn(r, rows); err != nil {
			return fmt.Errorf("column %q: %w", name, err)
		}
		b.names, b.cols, b.bytes = append(b.names, name), append(b.cols, c), b.bytes+c.Bytes()
	}
	return checkColumns(b.names, b.cols, b.rows)
}

// appendJSON writes one row as a JSON object.
func (b *block) appendJSON(dst []byte, row int) []byte {
	dst = append(dst, '{')
	for i, c := range b.cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, []byte(b.names[i])), ':')
		dst = c.AppendJSON(dst, row)
	}
	return append(dst, '}')
}
