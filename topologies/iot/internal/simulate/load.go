// Package simulate is the dirty load of an IoT platform: devices that publish readings over MQTT, with everything that goes wrong
// in the field (repeats, rubbish, hours-old data, sensors that break, clocks that are off), and a ledger of what was published.
package simulate

import (
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

// Load describes a load. Message i of a load is the same in every run with the same figures, but for its event time, which follows
// the clock at publication.
type Load struct {
	Seed uint64
	// Devices is how many there are. The last ten have clocks that are off: five are two hours ahead, five a year.
	Devices int
	// HotEvery makes every n-th device hot: it sends 100 times more than the others. 0 means none.
	HotEvery int
	// Shares of the messages, 0 to 1. Heartbeats come on top.
	Duplicates, Malformed, Late, Invalid, Heartbeats float64
	// LateFrom is the first message that may be late: before it, nothing has told the consumers what time it is.
	LateFrom int64
	// Recent is how far back a duplicate may reach, in messages.
	Recent int
}

// What a message is.
const (
	plain = iota
	duplicate
	malformed
	late
	invalid
)

// Clocks that are off.
const (
	fastClocks   = 5
	brokenClocks = 5
	hotFactor    = 100

	twoHours = 2 * time.Hour
	year     = 365 * 24 * time.Hour
)

// MaxDisorder is how far the event time of a reading that counts may lie before its publication, but for the clock's own error.
const MaxDisorder = 5 * time.Second

// message is one message of a load, without its time.
type message struct {
	index       int64
	kind        int
	device      int
	temperature ledger.Hundredths
	humidity    ledger.Hundredths
	// behind is how long before the publication the reading was taken, in ms.
	behind int64
	// shape picks the form of a malformed message.
	shape uint64
}

// random is splitmix64: the n-th random number of a seed, without state.
func random(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// below maps a random number to [0, n).
func below(h uint64, n int) int { return int((h >> 32) * uint64(n) >> 32) }

// part maps a random number to [0, 1).
func part(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// message makes message i. A duplicate says so; what it repeats is the publisher's memory.
func (l *Load) message(i int64) message {
	n := uint64(i) * 4
	h0, h1, h2, h3 := random(l.Seed, n), random(l.Seed, n+1), random(l.Seed, n+2), random(l.Seed, n+3)
	m := message{index: i, device: l.device(h1), shape: h3}
	m.temperature = ledger.Hundredths(1500 + m.device%2000 + below(h2, 1000))
	m.humidity = ledger.Hundredths(below(h2<<32, 10_001))
	m.behind = int64(below(h3, 500))
	if h3%5 == 0 {
		m.behind = int64(below(h3, int(MaxDisorder.Milliseconds())+1))
	}
	u := part(h0)
	for _, k := range [...]struct {
		kind  int
		share float64
	}{{duplicate, l.Duplicates}, {malformed, l.Malformed}, {late, l.Late}, {invalid, l.Invalid}} {
		if u < k.share {
			m.kind = k.kind
			break
		}
		u -= k.share
	}
	switch {
	case m.kind == late && (i < l.LateFrom || l.clock(m.device) != 0):
		m.kind = plain
	case m.kind == late:
		m.behind = time.Hour.Milliseconds() + int64(below(h3, int(twoHours.Milliseconds())))
	case m.kind == invalid && l.clock(m.device) == year:
		m.kind = plain
	case m.kind == invalid:
		m.temperature = 99_999 // the sensor's word for "broken"
	}
	return m
}

// device draws the device of a message.
func (l *Load) device(h uint64) int {
	if l.HotEvery < 2 {
		return below(h, l.Devices)
	}
	hot := (l.Devices + l.HotEvery - 1) / l.HotEvery
	n := below(h, hot*hotFactor+l.Devices-hot)
	if n < hot*hotFactor {
		return n / hotFactor * l.HotEvery
	}
	n -= hot * hotFactor
	return n + n/(l.HotEvery-1) + 1
}

// clock is how far the device's clock is ahead.
func (l *Load) clock(device int) time.Duration {
	switch fromEnd := l.Devices - 1 - device; {
	case l.Devices < 2*(fastClocks+brokenClocks):
		return 0
	case fromEnd < fastClocks:
		return twoHours
	case fromEnd < fastClocks+brokenClocks:
		return year
	}
	return 0
}

// heartbeat tells whether the device of message i sends a heartbeat before it.
func (l *Load) heartbeat(i int64) bool {
	return part(random(^l.Seed, uint64(i))) < l.Heartbeats
}

// DeviceName is the id of the n-th device.
func DeviceName(n int) string {
	var b [16]byte
	return string(appendDevice(b[:0], n))
}

func appendDevice(b []byte, n int) []byte {
	b = append(b, "dev-"...)
	for limit := 1_000_000; limit > 1 && n < limit; limit /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// appendReading appends the JSON of a reading or, without values, of a heartbeat.
func appendReading(b []byte, m *message, kind iot.Kind, at int64) []byte {
	b = append(b, `{"deviceId":"`...)
	b = appendDevice(b, m.device)
	b = append(b, `","site":"`...)
	b = append(b, iot.SiteName(m.device)...)
	b = append(b, `","kind":"`...)
	b = append(b, kind...)
	b = append(b, `","ts":`...)
	b = strconv.AppendInt(b, at, 10)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, m.index, 10)
	if kind == iot.KindReading {
		b = append(b, `,"temperature":`...)
		b = appendHundredths(b, m.temperature)
		b = append(b, `,"humidity":`...)
		b = appendHundredths(b, m.humidity)
	}
	return append(b, '}')
}

func appendHundredths(b []byte, h ledger.Hundredths) []byte {
	if h < 0 {
		b, h = append(b, '-'), -h
	}
	b = strconv.AppendInt(b, int64(h/100), 10)
	return append(b, '.', byte('0'+h/10%10), byte('0'+h%10))
}

// appendMalformed appends bytes that no reading has. All but the empty ones are different for every message.
func appendMalformed(b []byte, m *message, at int64) []byte {
	good := appendReading(nil, m, iot.KindReading, at)
	index := strconv.FormatInt(m.index, 10)
	switch m.shape % 8 {
	case 0: // cut off behind the sequence number
		b = append(b, good[:len(good)-20]...)
	case 1: // the wrong type
		b = append(b, `{"deviceId":"`+DeviceName(m.device)+`","site":"x","kind":"reading","ts":"yesterday","seq":`+index+`}`...)
	case 2: // another wrong type
		b = append(b, `{"deviceId":`+index+`,"ts":`+strconv.FormatInt(at, 10)+`,"temperature":[1,2]}`...)
	case 3: // not text at all
		b = append(b, 0xff, 0xfe, 0x00, 0x01, '\n', '"')
		for range 12 {
			m.shape = random(m.shape, uint64(m.index))
			b = append(b, byte(m.shape))
		}
		b = append(b, index...)
	case 4: // valid JSON, but nobody's
		b = append(b, `{"kind":"reading","ts":`+strconv.FormatInt(at, 10)+`,"seq":`+index+`,"temperature":20.00,"humidity":50.00}`...)
	case 5: // two readings in one message
		b = append(append(b, good...), good...)
	case 6: // a kind that does not exist
		b = append(b, `{"deviceId":"`+DeviceName(m.device)+`","site":"x","kind":"firmware","ts":`+strconv.FormatInt(at, 10)+`,"seq":`+index+`}`...)
	case 7: // nothing; MQTT allows it
		if m.shape>>8%8 != 0 {
			b = append(b, "null "+index...)
		}
	}
	return b
}
