package clickhouse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Sink writes records to a table, one row each, made by row. The row type R is a struct with `ch:"column"` tags, or any type whose
// columns are named by Columns.
//
// Order: rows of one task go out in order, but inserts run beside each other; use Version where the last word must win.
// Delivery: at least once, see the package. State: none. What a writer holds goes out with the epoch; a full block (MaxRows,
// MaxBytes) or an old one (MaxAge) ends the epoch early.
//
// A row that its columns cannot hold (a time outside 1900 to 2262, a string not in an Enum) is an error of the record.
func Sink[T, R any](c *Conn, table string, row func(T) R, opts ...Option) flow.Sink[T] {
	return &sink[T, R]{core: newCore[R](c, table, opts), row: row}
}

// Rows is Sink for records that are rows themselves.
func Rows[T any](c *Conn, table string, opts ...Option) flow.Sink[T] {
	return &sink[T, T]{core: newCore[T](c, table, opts)}
}

// Option changes one sink.
type Option func(*options)

type options struct {
	maxRows   int
	maxBytes  int
	maxAge    time.Duration
	version   string
	fields    []field
	fieldsFor reflect.Type
}

// MaxRows is how many rows one insert holds. Defaults to 50,000.
func MaxRows(n int) Option { return func(o *options) { o.maxRows = n } }

// MaxBytes is about how many bytes one insert holds, uncompressed; it is checked once a batch. Defaults to 8 MiB.
func MaxBytes(n int) Option { return func(o *options) { o.maxBytes = n } }

// MaxAge is how long a row may wait before the writer asks for the epoch's end; it is checked when records come. 0 leaves it to the
// epoch. Defaults to 1s.
func MaxAge(d time.Duration) Option { return func(o *options) { o.maxAge = d } }

// Version names a UInt64 column that the sink fills: the store's generation, shifted left by 40, plus the number of the row within
// its task. It rises with every row of a key, across restarts too, so that in a ReplacingMergeTree over it the last word wins.
func Version(column string) Option { return func(o *options) { o.version = column } }

type sink[T, R any] struct {
	*core
	row func(T) R // nil: T is the row
}

// core is what does not depend on the record's type.
type core struct {
	conn            *Conn
	database, table string
	options
	err error // of the construction, told by Open

	rt         flow.SinkRuntime
	names      []string
	types      []string
	engine     string
	replicated bool
	storeID    string
	seq        atomic.Uint64
	delivering sync.Mutex
	pending    []*insert

	mu   sync.Mutex
	free []*buffers
	enc  []*encoder
}

func newCore[R any](c *Conn, table string, opts []Option) *core {
	s := &core{conn: c, options: options{maxRows: 50_000, maxBytes: 8 << 20, maxAge: time.Second}}
	for _, o := range opts {
		o(&s.options)
	}
	s.database, s.table = c.cfg.Database, table
	if db, name, ok := strings.Cut(table, "."); ok {
		s.database, s.table = db, name
	}
	s.err = s.prepare(reflect.TypeFor[R]())
	return s
}

// prepare works out the columns.
func (s *core) prepare(row reflect.Type) error {
	if s.conn.err != nil {
		return s.conn.err
	}
	if s.table == "" {
		return errors.New("no table named")
	}
	if s.maxRows < 1 || s.maxBytes < 1 || s.maxAge < 0 {
		return fmt.Errorf("MaxRows %d and MaxBytes %d must be at least 1, MaxAge %s at least 0", s.maxRows, s.maxBytes, s.maxAge)
	}
	switch {
	case s.fieldsFor == nil:
		fields, err := fieldsOf(row)
		if err != nil {
			return err
		}
		s.fields = fields
	case s.fieldsFor != row:
		return fmt.Errorf("option Columns of %s for rows of %s", s.fieldsFor, row)
	default:
		if len(s.fields) == 0 {
			return errors.New("option Columns names no column")
		}
		if err := checkNames(s.fields); err != nil {
			return err
		}
	}
	for _, f := range s.fields {
		if f.name == s.version {
			return fmt.Errorf("column %q is filled by Version and by %s: take one away", f.name, f.goes)
		}
		s.names, s.types = append(s.names, f.name), append(s.types, f.typ)
	}
	if s.version != "" {
		s.names, s.types = append(s.names, s.version), append(s.types, "UInt64")
	}
	return nil
}

// Open checks the table against the row type: every column must be there and hold every value of its field.
func (s *sink[T, R]) Open(ctx context.Context, rt flow.SinkRuntime) error {
	return s.open(ctx, rt)
}

func (s *core) open(ctx context.Context, rt flow.SinkRuntime) error {
	if s.err != nil {
		return fmt.Errorf("clickhouse sink for table %q: %w", s.table, s.err)
	}
	s.start(rt)
	return s.check(ctx)
}

// start takes the runtime, filling what a test leaves out.
func (s *core) start(rt flow.SinkRuntime) {
	if rt.Clock == nil {
		rt.Clock = flow.SystemClock()
	}
	if rt.Log == nil {
		rt.Log = slog.New(slog.DiscardHandler)
	}
	if rt.Count == nil {
		rt.Count = func(string, int64) {}
	}
	if rt.RequestEpoch == nil {
		rt.RequestEpoch = func() {}
	}
	s.rt = rt
	s.storeID = rt.StoreID
	if s.storeID == "" { // no store, so nothing of an earlier run may be repeated by name
		s.storeID = rand.Text()
	}
}

// token names an insert: it never repeats with other bytes.
func (s *core) token() string {
	return fmt.Sprintf("%s/%d/%s/%d", s.storeID, s.rt.Incarnation, s.rt.Node, s.seq.Add(1))
}

// DecodeBlock reads a block of an outbox. It needs no server.
func (s *sink[T, R]) DecodeBlock(data []byte) (flow.Block, error) {
	b, err := decodeBlock(data)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Close ends the sink's use of the connection, which stays open for others.
func (s *sink[T, R]) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free, s.enc, s.pending = nil, nil, nil
	return nil
}

// buffers is a set of columns with the functions that fill them.
type buffers struct {
	cols    []column
	app     []appender
	version *fixed[uint64] // also the last of cols; nil without Version
	times   []flow.Timestamp
}

// maxFree bounds the buffers that are kept for reuse.
const maxFree = 16

func (s *core) takeBuffers() (*buffers, error) {
	s.mu.Lock()
	if k := len(s.free); k > 0 {
		b := s.free[k-1]
		s.free = s.free[:k-1]
		s.mu.Unlock()
		return b, nil
	}
	s.mu.Unlock()
	b := &buffers{}
	for i, typ := range s.types {
		c, err := newColumn(typ)
		if err != nil {
			return nil, err
		}
		b.cols = append(b.cols, c)
		if i == len(s.fields) {
			b.version = c.(*fixed[uint64])
			break
		}
		app := s.fields[i].bind(c)
		if app == nil {
			return nil, s.mismatch(s.fields[i], typ)
		}
		b.app = append(b.app, app)
	}
	return b, nil
}

func (s *core) giveBuffers(b *buffers) {
	bytes := 0
	for _, c := range b.cols {
		bytes += c.Bytes()
		c.Reset()
	}
	b.times = b.times[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < maxFree && bytes <= 2*s.maxBytes {
		s.free = append(s.free, b)
	}
}

func (s *core) takeEncoder() *encoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := len(s.enc); k > 0 {
		e := s.enc[k-1]
		s.enc = s.enc[:k-1]
		return e
	}
	return newEncoder(s.conn.cfg.Compression)
}

func (s *core) giveEncoder(e *encoder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.enc) < s.conn.cfg.MaxInFlight {
		s.enc = append(s.enc, e)
	}
}

// encodeTo writes columns as they go over HTTP.
func (s *core) encodeTo(w io.Writer, cols []column, names []string, rows int) error {
	e := s.takeEncoder()
	defer s.giveEncoder(e)
	return e.block(w, names, cols, rows)
}
