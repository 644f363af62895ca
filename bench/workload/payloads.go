package workload

import (
	"fmt"
	"strconv"
)

// Payloads makes the JSON payloads of job F out of a pool, so that making them costs little beside decoding them: payload i is the
// one of event i%65,536 with the time and number of event i. It is read-only after NewPayloads and safe for concurrent use.
type Payloads struct {
	g    *Generator
	pool [][]byte
}

const poolSize = 1 << 16

// All payloads have the same shape, so time and number stand at the same places.
const (
	tsAt  = len(`{"deviceId":"dev-0000000","ts":`)
	seqAt = tsAt + len(`1699999980000,"temperature":00.00,"humidity":00.00,"fw":"1.4","seq":`)
	// firstSeq makes every number ten digits long.
	firstSeq = 1_000_000_000
)

// NewPayloads makes the pool. Generators with a table of more than 10,000,000 devices do not fit the shape.
func NewPayloads(g *Generator) *Payloads {
	p := &Payloads{g: g, pool: make([][]byte, poolSize)}
	for i := range p.pool {
		e := g.Next(int64(i))
		p.pool[i] = fmt.Appendf(nil, `{"deviceId":"%s","ts":%d,"temperature":%.2f,"humidity":%.2f,"fw":"1.4","seq":%d}`,
			e.Device, e.TS, min(e.Temperature, 99.99), 10+e.Humidity*0.8999, firstSeq+int64(i))
	}
	return p
}

// Append appends payload i to b. It allocates nothing where b has room. i is less than 9,000,000,000.
func (p *Payloads) Append(b []byte, i int64) []byte {
	at := len(b)
	b = append(b, p.pool[i%poolSize]...)
	strconv.AppendInt(b[at+tsAt:at+tsAt], Start+i*1000/p.g.rate, 10)
	strconv.AppendInt(b[at+seqAt:at+seqAt], firstSeq+i, 10)
	return b
}
