package flowtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// memorySink writes a memory. With a quirk it breaks one promise.
type memorySink struct {
	m     *memory
	wrong bool
	quirk string

	rt     flow.SinkRuntime
	mu     sync.Mutex
	next   int
	closed bool
}

// item is a record of the sink's tests: a negative id cannot be stored, an odd one of these is found out by the system only.
type item struct{ id int }

func (s *memorySink) Open(ctx context.Context, rt flow.SinkRuntime) error {
	s.rt = rt
	switch {
	case s.wrong && s.quirk == "wrong is transient":
		return flow.Transient(errors.New("the table is empty"))
	case s.wrong && s.quirk == "wrong without a word":
		return errors.New("it does not work")
	case s.wrong && s.quirk != "wrong is accepted":
		return errors.New("the table is empty")
	case s.wrong:
		return nil
	}
	_, err := s.m.connect()
	switch {
	case err == nil:
	case s.quirk == "open fails for good":
		return errors.New("cannot connect")
	case s.quirk == "open hangs":
		<-s.m.ended
	default:
		return err
	}
	if s.quirk == "leaks" {
		go func() { <-s.m.ended }()
	}
	return ctx.Err()
}

func (s *memorySink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.quirk == "closes once" {
		return errors.New("closed already")
	}
	s.closed = true
	if s.quirk == "close hangs" {
		<-s.m.ended
	}
	return nil
}

func (s *memorySink) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[item], error) {
	return &memoryWriter{s: s}, nil
}

type memoryWriter struct {
	s    *memorySink
	rows []int64
	kept [][]flow.Record[item]
	old  []flow.Block
}

func (w *memoryWriter) Write(_ context.Context, batch []flow.Record[item]) error {
	switch w.s.quirk {
	case "keeps the batch":
		w.kept = append(w.kept, batch)
		return nil
	case "one refused takes the rest":
		for _, r := range batch {
			if r.Value.id < 0 {
				return &flow.RecordError{Index: 0, Err: errors.New("negative")}
			}
		}
	case "refused without a place":
		for _, r := range batch {
			if r.Value.id < 0 {
				return errors.New("negative")
			}
		}
	case "writers share":
		w.s.mu.Lock()
		w.s.next++
		w.s.mu.Unlock()
	}
	for i, r := range batch {
		id := r.Value.id
		if w.s.quirk == "writers share" && w.s.next > 2 {
			continue
		}
		if id < 0 && id%2 == 0 && w.s.quirk != "one refused takes the rest" {
			if w.s.quirk == "swallows the refused" {
				continue
			}
			return &flow.RecordError{Index: i, Err: errors.New("negative")}
		}
		w.rows = append(w.rows, int64(id))
	}
	return nil
}

func (w *memoryWriter) Seal(ctx context.Context) ([]flow.Block, error) {
	for _, batch := range w.kept {
		for _, r := range batch {
			w.rows = append(w.rows, int64(r.Value.id))
		}
	}
	w.kept = nil
	switch w.s.quirk {
	case "seal is slow":
		_ = flow.SystemClock().Sleep(ctx, 150*time.Millisecond)
	case "seal talks":
		era, _ := w.s.m.connect()
		_ = w.s.m.request(ctx, era, func() {})
	case "seals nothing":
		if len(w.rows) == 0 {
			return []flow.Block{&memoryBlock{}}, nil
		}
	}
	if w.s.quirk == "seals again" {
		w.old = append(w.old, &memoryBlock{rows: w.rows})
		return w.old, nil
	}
	if len(w.rows) == 0 {
		return nil, nil
	}
	w.s.mu.Lock()
	w.s.next++
	token := fmt.Sprintf("%s/%d/%d", w.s.rt.StoreID, w.s.rt.Incarnation, w.s.next)
	w.s.mu.Unlock()
	b := &memoryBlock{rows: w.rows, token: token, quirk: w.s.quirk}
	if w.s.quirk == "swaps records" && len(b.rows) > 1 {
		b.rows[0], b.rows[1] = b.rows[1], b.rows[0]
	}
	w.rows = nil
	return []flow.Block{b}, nil
}

type memoryBlock struct {
	rows  []int64
	token string
	done  bool
	quirk string
}

func (b *memoryBlock) Rows() int  { return len(b.rows) }
func (b *memoryBlock) Bytes() int { return 8 * len(b.rows) }

func (b *memoryBlock) AppendBinary(to []byte) ([]byte, error) {
	if b.quirk == "encoding overwrites" {
		to = to[:0]
	}
	to = append(to, 'b', byte(len(b.token)))
	to = append(to, b.token...)
	to = binary.AppendUvarint(to, uint64(len(b.rows)))
	for _, r := range b.rows {
		to = binary.BigEndian.AppendUint64(to, uint64(r))
	}
	return to, nil
}

func (s *memorySink) DecodeBlock(data []byte) (flow.Block, error) {
	bad := errors.New("not a block")
	if s.quirk == "decodes into one slice" {
		b, err := decodeMemoryBlock(data)
		return &aliased{memoryBlock: b, data: data}, err
	}
	if s.quirk == "decode panics" {
		_ = data[20]
	}
	if s.quirk == "decodes anything" && len(data) > 2 {
		if b, err := decodeMemoryBlock(data); err == nil {
			return b, nil
		}
		return &memoryBlock{}, nil
	}
	b, err := decodeMemoryBlock(data)
	if err != nil {
		return nil, bad
	}
	if s.quirk == "decode loses the last row" {
		b.rows = b.rows[:len(b.rows)-1]
	}
	return b, nil
}

// aliased reads its rows from the encoded bytes when it is delivered.
type aliased struct {
	*memoryBlock
	data []byte
}

func decodeMemoryBlock(data []byte) (*memoryBlock, error) {
	bad := errors.New("not a block")
	r := bytes.NewReader(data)
	if c, err := r.ReadByte(); err != nil || c != 'b' {
		return nil, bad
	}
	n, err := r.ReadByte()
	if err != nil || int(n) > r.Len() {
		return nil, bad
	}
	token := make([]byte, n)
	_, _ = r.Read(token)
	rows, err := binary.ReadUvarint(r)
	if err != nil || rows == 0 || r.Len()%8 != 0 || rows != uint64(r.Len()/8) {
		return nil, bad
	}
	b := &memoryBlock{token: string(token), rows: make([]int64, rows)}
	return b, binary.Read(r, binary.BigEndian, b.rows)
}

func (s *memorySink) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if len(blocks) == 0 {
		return nil, nil
	}
	if s.quirk == "deliver ignores the end" {
		ctx = context.WithoutCancel(ctx)
	}
	era, err := s.m.connect()
	if err == nil {
		var rejects []flow.Reject
		if rejects, err = s.send(ctx, era, blocks); err == nil {
			return rejects, nil
		}
	}
	switch {
	case ctx.Err() != nil && s.quirk != "says done without an answer":
		return nil, err
	case s.quirk == "says done without an answer":
		return nil, nil
	case s.quirk == "deliver fails for good":
		return nil, errors.New("cannot deliver")
	case s.quirk == "deliver hangs":
		<-s.m.ended
	case s.quirk == "drops on retry":
		for _, b := range blocks {
			b.(*memoryBlock).done = true
		}
	}
	return nil, err
}

func (s *memorySink) send(ctx context.Context, era int, blocks []flow.Block) (rejects []flow.Reject, err error) {
	for i, fb := range blocks {
		if a, ok := fb.(*aliased); ok {
			again, err := decodeMemoryBlock(a.data)
			if err != nil {
				return nil, err
			}
			fb = again
		}
		b := fb.(*memoryBlock)
		if b.done {
			continue
		}
		if s.quirk == "bad rows take the block" && slices.ContainsFunc(b.rows, func(id int64) bool { return id < 0 }) {
			for row := range b.rows {
				rejects = append(rejects, flow.Reject{Block: i, Row: row, Err: errors.New("negative"), Record: []byte("?")})
			}
			b.done = true
			continue
		}
		rows := b.rows
		if s.quirk == "sends in pieces without a token" {
			rows = b.rows[:len(b.rows)/2]
		}
		if s.quirk == "stores half" {
			rows = b.rows[:len(b.rows)/2]
		}
		store := func() {
			if s.m.committed[b.token] && s.quirk != "repeats" && s.quirk != "sends in pieces without a token" && b.token != "" {
				return
			}
			s.m.committed[b.token] = true
			for _, id := range rows {
				if id >= 0 {
					s.m.rows = append(s.m.rows, int(id))
				}
			}
		}
		if err := s.m.request(ctx, era, store); err != nil {
			return nil, err
		}
		if s.quirk == "sends in pieces without a token" {
			rows = b.rows[len(b.rows)/2:]
			if err := s.m.request(ctx, era, store); err != nil {
				return nil, err
			}
		}
		b.done = s.quirk != "sends all again"
		for row, id := range b.rows {
			if id >= 0 || s.quirk == "swallows the refused" {
				continue
			}
			r := flow.Reject{Block: i, Row: row, Err: fmt.Errorf("row %d is negative", row), Record: fmt.Append(nil, id)}
			switch s.quirk {
			case "rejects another block's row":
				r.Block = len(blocks)
			case "rejects without the row":
				r.Record = nil
			case "rejects without a cause":
				r.Err = nil
			}
			rejects = append(rejects, r)
		}
	}
	return rejects, nil
}
