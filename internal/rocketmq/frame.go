package rocketmq

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// Request is one command to a server.
type Request struct {
	Code int
	// Ext are the fields of the command. They are not kept.
	Ext map[string]string
	// Body is sent as the pieces are, one behind the other.
	Body [][]byte
}

func (r Request) bodySize() (n int) {
	for _, p := range r.Body {
		n += len(p)
	}
	return n
}

func (r Request) check() error {
	if n := r.bodySize(); n > maxFrame-maxHeader {
		return fmt.Errorf("rocketmq: command %d has %d bytes, more than %d", r.Code, n, maxFrame-maxHeader)
	}
	return nil
}

// Response is the answer to a request.
type Response struct {
	Code   int
	Remark string
	Ext    map[string]string
	// Body belongs to the caller until Release.
	Body []byte
	// Addr is the server that answered.
	Addr string

	opaque int32
	flag   int
	pooled *[]byte
}

// The largest frame and header that are read; a broker's own limit for a frame is 16 MiB.
const (
	maxFrame  = 64 << 20
	maxHeader = 1 << 20
)

type header struct {
	Code      int               `json:"code"`
	Language  string            `json:"language"`
	Version   int               `json:"version"`
	Opaque    int32             `json:"opaque"`
	Flag      int               `json:"flag"`
	Remark    string            `json:"remark,omitempty"`
	ExtFields map[string]string `json:"extFields,omitempty"`
}

// protocolVersion is the one that the Go client names too; servers give newer versions other answers.
const protocolVersion = 317

// appendHead appends everything of a frame but its body. A frame is: length of the rest, length of the header (its top byte
// says how it is encoded, 0 is JSON), header, body.
func appendHead(b []byte, opaque int32, req Request, cred Credentials) ([]byte, error) {
	ext := req.Ext
	if !cred.isZero() {
		ext = cred.sign(req)
	}
	h, err := json.Marshal(header{Code: req.Code, Language: "GO", Version: protocolVersion, Opaque: opaque, ExtFields: ext})
	if err != nil {
		return nil, fmt.Errorf("rocketmq: encode command %d: %w", req.Code, err)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(h)+req.bodySize()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	return append(b, h...), nil
}

// readFrame reads one frame; its body is in a buffer of the pool.
func readFrame(r *bufio.Reader) (*Response, error) {
	var sizes [8]byte
	if _, err := io.ReadFull(r, sizes[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(sizes[:]))
	encoding, length := sizes[4], int(binary.BigEndian.Uint32(sizes[4:])&0xffffff)
	switch {
	case size > maxFrame:
		return nil, fmt.Errorf("frame of %d bytes: not a RocketMQ server?", size)
	case encoding != 0:
		return nil, fmt.Errorf("header in encoding %d: only JSON (0) is understood", encoding)
	case length > maxHeader || length > size-4:
		return nil, fmt.Errorf("header of %d bytes in a frame of %d", length, size)
	}
	h, err := peek(r, length)
	if err != nil {
		return nil, err
	}
	var head header
	if !head.parse(h) {
		head = header{}
		if err := json.Unmarshal(h, &head); err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
	}
	resp := &Response{Code: head.Code, Remark: head.Remark, Ext: head.ExtFields, opaque: head.Opaque, flag: head.Flag}
	if n := size - 4 - length; n > 0 {
		resp.pooled = takeBody(n)
		resp.Body = (*resp.pooled)[:n]
		if _, err := io.ReadFull(r, resp.Body); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return resp, nil
}

func peek(r *bufio.Reader, n int) ([]byte, error) {
	if n <= r.Size() {
		b, err := r.Peek(n)
		if err != nil {
			return nil, err
		}
		_, err = r.Discard(n) // cannot fail: n bytes are buffered, and stay until the next read
		return b, err
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func (r *Response) isResponse() bool { return r.flag&1 != 0 }

// Release gives the body's memory back. Nothing of Body may be used afterwards.
func (r *Response) Release() {
	if r.pooled != nil {
		bodies.Put(r.pooled)
		r.pooled, r.Body = nil, nil
	}
}

// Int is a numeric field of the answer.
func (r *Response) Int(field string) (int64, error) {
	n, err := strconv.ParseInt(r.Ext[field], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("rocketmq: %s: field %s of the answer: %w", r.Addr, field, err)
	}
	return n, nil
}

// bodies keeps memory of answers between two garbage collections; a pull brings up to some MiB.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

func takeBody(n int) *[]byte {
	b := bodies.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, max(n, 4<<10))
	}
	*b = (*b)[:cap(*b)]
	return b
}
