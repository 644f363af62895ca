package rocketmq

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// parse reads a header in the plain form that servers write: an object of numbers and of strings without escapes, with one such
// object in it. For anything else it returns false, and the caller takes the long way. The answer to a batch lists the id of every
// message, 33 KiB for 1,024, which takes encoding/json longer than all else that is done for the batch.
func (h *header) parse(b []byte) bool {
	p := plainJSON{rest: b}
	p.object(func(key []byte) {
		switch string(key) {
		case "code":
			h.Code = int(p.number())
		case "flag":
			h.Flag = int(p.number())
		case "opaque":
			h.Opaque = int32(p.number())
		case "remark":
			h.Remark = string(p.text())
		case "extFields":
			p.bad = p.bad || h.ExtFields != nil
			h.ExtFields = make(map[string]string, 16)
			p.object(func(name []byte) { h.ExtFields[string(name)] = string(p.text()) })
		case "language", "serializeTypeCurrentRPC":
			p.text()
		case "version":
			p.number()
		default:
			p.bad = true
		}
	})
	p.space()
	return !p.bad && len(p.rest) == 0
}

// plainJSON reads JSON that needs no decoding; bad is set at what does.
type plainJSON struct {
	rest []byte
	bad  bool
}

func (p *plainJSON) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\t' || p.rest[0] == '\n' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
}

// take takes c, if it is next.
func (p *plainJSON) take(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plainJSON) want(c byte) { p.bad = p.bad || !p.take(c) }

// object calls value for each key, which is to read the value.
func (p *plainJSON) object(value func(key []byte)) {
	p.want('{')
	for first := true; !p.bad && !p.take('}'); first = false {
		if !first {
			p.want(',')
		}
		key := p.text()
		p.want(':')
		if !p.bad {
			value(key)
		}
	}
}

func (p *plainJSON) text() []byte {
	p.want('"')
	i := bytes.IndexByte(p.rest, '"')
	if p.bad || i < 0 {
		p.bad = true
		return nil
	}
	s := p.rest[:i]
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			p.bad = true
			return nil
		}
	}
	p.rest = p.rest[i+1:]
	return s
}

func (p *plainJSON) number() int64 {
	p.space()
	i := 0
	for i < len(p.rest) && (p.rest[i] == '-' || p.rest[i] >= '0' && p.rest[i] <= '9') {
		i++
	}
	n, err := strconv.ParseInt(string(p.rest[:i]), 10, 32)
	if err != nil || i > 1 && p.rest[0] == '0' || i > 2 && p.rest[0] == '-' && p.rest[1] == '0' {
		p.bad = true
	}
	p.rest = p.rest[i:]
	return n
}
