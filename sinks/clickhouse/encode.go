package clickhouse

import (
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// frameSize is how many bytes go into one compressed frame.
const frameSize = 1 << 20

// errNoRows guards against an insert without rows, which servers and clients call a success.
var errNoRows = errors.New("insert without rows")

// encoder writes blocks in ClickHouse's Native format, packed into compressed frames. It is reused and not safe for concurrent use.
type encoder struct {
	buf  proto.Buffer
	lz4  *lz4Frames
	zstd *compress.Writer // neither: uncompressed
}

func newEncoder(c Compression) *encoder {
	switch c {
	case ZSTD:
		return &encoder{zstd: compress.NewWriter(compress.LevelZero, compress.ZSTD)}
	case NoCompression:
		return &encoder{}
	}
	return &encoder{lz4: &lz4Frames{}}
}

// checkColumns refuses what would be lost or mangled without an error: no columns, no rows, columns of unequal length.
func checkColumns(names []string, cols []column, rows int) error {
	if len(cols) == 0 || len(cols) != len(names) {
		return fmt.Errorf("insert with %d columns for %d names", len(cols), len(names))
	}
	if rows == 0 {
		return errNoRows
	}
	for i, c := range cols {
		if c.Rows() != rows {
			return fmt.Errorf("column %q has %d values for %d rows", names[i], c.Rows(), rows)
		}
	}
	return nil
}

// block writes one block to w.
func (e *encoder) block(w io.Writer, names []string, cols []column, rows int) error {
	if err := checkColumns(names, cols, rows); err != nil {
		return err
	}
	e.buf.Reset()
	e.buf.PutInt(len(cols))
	e.buf.PutInt(rows)
	for i, c := range cols {
		if err := c.Prepare(); err != nil {
			return fmt.Errorf("column %q: %w", names[i], err)
		}
		e.buf.PutString(names[i])
		e.buf.PutString(string(c.Type()))
		c.EncodeState(&e.buf)
		c.EncodeColumn(&e.buf)
		if err := e.flush(w, frameSize); err != nil {
			return err
		}
	}
	return e.flush(w, 0)
}

// flush writes what is buffered when it is more than keep.
func (e *encoder) flush(w io.Writer, keep int) error {
	if len(e.buf.Buf) <= keep {
		return nil
	}
	for raw := e.buf.Buf; len(raw) > 0; {
		n := min(len(raw), frameSize)
		out := raw[:n]
		switch {
		case e.lz4 != nil:
			out = e.lz4.frame(out)
		case e.zstd != nil:
			if err := e.zstd.Compress(out); err != nil {
				return err
			}
			out = e.zstd.Data
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
		raw = raw[n:]
	}
	e.buf.Reset()
	return nil
}
