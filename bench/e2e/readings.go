package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// readings makes what the devices of the main job send: 10,000 devices at one reading a second each, in JSON, out of a pool, so that making
// one costs little. It is read-only and safe for concurrent use.
type readings struct {
	base   int64 // time of the first, ms
	topics [][]byte
	pool   [][]byte
}

const (
	readingsPool = 1 << 16
	readingsRate = 10_000
	// closing is the device whose one message comes last and lets the windows of all others close.
	closing  = "closing-001"
	firstSeq = 1_000_000_000 // ten digits for all
	tsAt     = len(`{"deviceId":"dev-0000000","site":"site-000","kind":"reading","ts":`)
	seqAt    = tsAt + len(`1699999980000,"seq":`)
)

// newReadings makes the pool. Event time begins a day ago, so that it can be brought forward at the end and no clock is ahead.
func newReadings(topic string) *readings {
	g := workload.New(workload.B10k())
	r := &readings{base: time.Now().Add(-24 * time.Hour).Truncate(time.Minute).UnixMilli(), topics: make([][]byte, readingsPool), pool: make([][]byte, readingsPool)}
	for i := range r.pool {
		e := g.Next(int64(i))
		n, _ := strconv.Atoi(strings.TrimPrefix(e.Device, "dev-"))
		r.topics[i] = fmt.Appendf(nil, "%s/%s/%s", topic, iot.SiteName(n), e.Device)
		r.pool[i] = r.payload(e.Device, iot.SiteName(n), int64(i), e.Temperature*0.8, e.Humidity)
	}
	return r
}

func (r *readings) payload(device, site string, i int64, temperature, humidity float64) []byte {
	return fmt.Appendf(nil, `{"deviceId":"%s","site":"%s","kind":"reading","ts":%d,"seq":%d,"temperature":%.2f,"humidity":%.2f}`,
		device, site, r.at(i), firstSeq+i, temperature, humidity)
}

// at is the event time of reading i, in ms.
func (r *readings) at(i int64) int64 { return r.base + i*1000/readingsRate }

// append appends the payload of reading i to b; the topic is shared.
func (r *readings) append(b []byte, i int64) (topic, payload []byte) {
	at := len(b)
	b = append(b, r.pool[i%readingsPool]...)
	strconv.AppendInt(b[at+tsAt:at+tsAt], r.at(i), 10)
	strconv.AppendInt(b[at+seqAt:at+seqAt], firstSeq+i, 10)
	return r.topics[i%readingsPool], b
}

// last is the message behind n readings: its time is an hour later.
func (r *readings) last(n int64) []byte {
	return r.payload(closing, iot.SiteName(0), n+3600*readingsRate, 20, 50)
}
