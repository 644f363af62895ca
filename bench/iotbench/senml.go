package iotbench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/senml"
	"github.com/millrace-stream/millrace/operators"
)

// kinds is how many observations a message has.
const kinds = 5

// observed is what is observed, in which unit, and between which limits it can be right.
var observed = [kinds]struct {
	name, unit  string
	least, most float64
}{{"temperature", "Cel", -12.5, 43.1}, {"humidity", "%RH", 10.7, 95.2}, {"light", "lx", 1345, 26282}, {"dust", "ug/m3", 186.61, 5188.21}, {"airquality", "ppm", 17, 363}}

const sensorPrefix = "urn:dev:sensor:"

func senmlSensor(n int) string { return fmt.Sprintf("%s%06d", sensorPrefix, n) }

// Message appends message i: five observations of a sensor. One value in 50 is out of its limits, and one message in 100 of a sensor that
// nobody knows.
func (s Size) Message(b []byte, i int64) []byte {
	h := s.hash(i)
	sensor := among(h, s.Devices)
	if h%100 == 0 {
		sensor += s.Devices
	}
	b = append(append(b, `[{"bn":"`...), sensorPrefix...)
	digits := strconv.AppendInt(nil, int64(1_000_000+sensor), 10)
	b = append(append(b, digits[1:]...), `:","bt":`...)
	ms := s.at(i)
	b = strconv.AppendInt(b, ms/1000, 10)
	b = append(append(b, '.'), strconv.AppendInt(nil, 1000+ms%1000, 10)[1:]...)
	for k := range observed {
		o := &observed[k]
		if k == 0 {
			b = append(b, `,"n":"`...)
		} else {
			b = append(b, `,{"n":"`...)
		}
		b = append(append(append(append(append(b, o.name...), `","u":"`...), o.unit...), `","v":`...), valueText(h, k)...)
		b = append(b, '}')
	}
	return append(b, ']')
}

// valueText is a value with two decimals.
func valueText(h uint64, k int) string {
	z := (h + uint64(k)) * 0xBF58476D1CE4E5B9
	z ^= z >> 29
	o := &observed[k]
	v := o.least + (o.most-o.least)*share(z)
	if z>>32%50 == 0 {
		v = o.most * 2
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// observation is one value of a message.
type observation struct {
	// Name is that of sensor and kind together, Sensor the sensor's.
	Name, Sensor string
	Kind         int64
	At           int64
	Value        float64
	// Missing: there is no value that can be right. Filled: it was missing.
	Missing, Filled bool
	N               int64
}

func (o observation) time() time.Time { return time.UnixMilli(o.At) }

func nameOf(o observation) string { return o.Name }
func kindOf(o observation) int64  { return o.Kind }

// observations parses the messages of a load.
func observations(t *flow.Topology, l *harness.Load, s Size) flow.Stream[observation] {
	c := senml.JSON()
	var payload []byte
	packs := flow.From(t, "messages", harness.From(l, func(i int64, p *senml.Pack) {
		payload, *p = s.Message(payload[:0], i), nil
		if c.Decode(payload, p) != nil {
			*p = nil
		}
	}))
	return parsed(senml.Records(packs, "records"), s)
}

func parsed(records flow.Stream[senml.Record], s Size) flow.Stream[observation] {
	byName := map[string]int64{}
	for k := range observed {
		byName[observed[k].name] = int64(k)
	}
	os := operators.Map(records, "parsed", func(_ context.Context, r senml.Record) (observation, error) {
		at := strings.LastIndexByte(r.Name, ':')
		if at < 0 {
			return observation{}, fmt.Errorf("%q names no sensor", r.Name)
		}
		kind, ok := byName[r.Name[at+1:]]
		if !ok {
			return observation{}, fmt.Errorf("%q observes nothing that is known", r.Name)
		}
		ms := r.Time.UnixMilli()
		return observation{Name: r.Name, Sensor: r.Name[:at], Kind: kind, At: ms, Value: r.Value, N: s.number(ms)}, nil
	})
	return flow.AssignTime(os, "time", observation.time, inOrder())
}

// number is that of the first event at a time.
func (s Size) number(ms int64) int64 { return (ms - begin) * int64(time.Millisecond) / int64(s.Every) }
