package workload

import (
	"bytes"
	"errors"
	"strings"
	"unsafe"
)

// FloorF is job F with a decoder that is written for these payloads by hand: names in their order, no escapes, no spaces, numbers
// of a few digits. The device's name points into the payload.
func FloorF(g *Generator, n int64) Result {
	p := NewPayloads(g)
	return p.Floor(n)
}

// Floor is FloorF over payloads that are made already.
func (p *Payloads) Floor(n int64) Result {
	m := newMinutes(len(p.g.devices))
	buf := make([]byte, 0, 256)
	var r reading
	for i := range n {
		buf = p.Append(buf[:0], i)
		if err := r.decode(buf); err != nil {
			panic(err)
		}
		m.advance(r.ts)
		id, ok := m.ids[r.device]
		if !ok {
			id = m.id(strings.Clone(r.device))
		}
		m.add(id, r.temperature*1.8+32)
	}
	m.flush()
	return m.r
}

// FloorMap is only the decoding and the update of job F: the sum of t*1.8+32.
func (p *Payloads) FloorMap(n int64) Result {
	buf := make([]byte, 0, 256)
	var res Result
	var r reading
	for i := range n {
		buf = p.Append(buf[:0], i)
		if err := r.decode(buf); err != nil {
			panic(err)
		}
		res.Out++
		res.Sum += r.temperature*1.8 + 32
	}
	return res
}

type reading struct {
	device      string
	ts          int64
	temperature float64
	humidity    float64
	fw          string
	seq         int64
}

var errShape = errors.New("the payload does not have the workload's shape")

// decode reads a payload by hand.
func (r *reading) decode(b []byte) error {
	var ok bool
	if r.device, b, ok = text(b, `{"deviceId":"`); !ok {
		return errShape
	}
	if r.ts, b, ok = whole(b, `,"ts":`); !ok {
		return errShape
	}
	if r.temperature, b, ok = decimal(b, `,"temperature":`); !ok {
		return errShape
	}
	if r.humidity, b, ok = decimal(b, `,"humidity":`); !ok {
		return errShape
	}
	if r.fw, b, ok = text(b, `,"fw":"`); !ok {
		return errShape
	}
	if r.seq, b, ok = whole(b, `,"seq":`); !ok || len(b) != 1 {
		return errShape
	}
	return nil
}

func text(b []byte, name string) (string, []byte, bool) {
	if len(b) < len(name) || string(b[:len(name)]) != name {
		return "", nil, false
	}
	b = b[len(name):]
	end := bytes.IndexByte(b, '"')
	if end < 0 {
		return "", nil, false
	}
	return unsafe.String(unsafe.SliceData(b), end), b[end+1:], true
}

func whole(b []byte, name string) (int64, []byte, bool) {
	if len(b) < len(name) || string(b[:len(name)]) != name {
		return 0, nil, false
	}
	b = b[len(name):]
	var n int64
	for i, c := range b {
		if c -= '0'; c > 9 {
			return n, b[i:], true
		}
		n = n*10 + int64(c)
	}
	return 0, nil, false
}

// decimal reads a number with a point and two decimals.
func decimal(b []byte, name string) (float64, []byte, bool) {
	if len(b) < len(name) || string(b[:len(name)]) != name {
		return 0, nil, false
	}
	b = b[len(name):]
	var n int64
	for i, c := range b {
		if c == '.' {
			if len(b) < i+3 {
				break
			}
			return float64(n*100+int64(b[i+1]-'0')*10+int64(b[i+2]-'0')) / 100, b[i+3:], true
		}
		n = n*10 + int64(c-'0')
	}
	return 0, nil, false
}
