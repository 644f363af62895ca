package iotbench

import (
	"context"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/senml"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// bloom is a filter of names: 16 bits and 4 hashes per name, so that about one in 400 others passes.
type bloom struct {
	bits []uint64
	n    uint64
}

func newBloom(names []string) *bloom {
	b := &bloom{n: uint64(16 * len(names))}
	b.bits = make([]uint64, b.n/64+1)
	for _, name := range names {
		h := xxhash.Sum64String(name)
		for range 4 {
			b.bits[h%b.n/64] |= 1 << (h % b.n % 64)
			h = h*0x9E3779B97F4A7C15 + 0x94D049BB133111EB
		}
	}
	return b
}

func (b *bloom) has(name string) bool {
	h := xxhash.Sum64String(name)
	for range 4 {
		if b.bits[h%b.n/64]&(1<<(h%b.n%64)) == 0 {
			return false
		}
		h = h*0x9E3779B97F4A7C15 + 0x94D049BB133111EB
	}
	return true
}

// meta is what is known of a sensor.
type meta struct {
	City     string
	Lat, Lon float64
}

func (s Size) sensors() (names []string, known map[string]meta) {
	cities := []string{"Bengaluru", "Boston", "Genève", "Rio de Janeiro", "San Francisco", "Shanghai", "Singapore"}
	known = map[string]meta{}
	for i := range s.Devices {
		names = append(names, senmlSensor(i))
		known[names[i]] = meta{cities[i%len(cities)], float64(i%180) - 90, float64(i%360) - 180}
	}
	return names, known
}

// recent is how many values interpolation looks back at.
const recent = 5

// past is the last values of a sensor and kind.
type past struct {
	Values [recent]float64
	N      int64
}

// complete fills a missing value by the mean of the last ones; without any it stays missing.
func (p *past) complete(o *observation) {
	if !o.Missing {
		p.Values[p.N%recent] = o.Value
		p.N++
		return
	}
	n := min(p.N, recent)
	if n == 0 {
		return
	}
	o.Value = 0
	for _, v := range p.Values[:n] {
		o.Value += v / float64(n)
	}
	o.Missing, o.Filled = false, true
}

// whole is a message that is put together again.
type whole struct {
	Sensor   string
	At       int64
	Values   [kinds]float64
	Have     [kinds]bool
	Filled   int64
	City     string
	Lat, Lon float64
	N        int64
}

func (m *whole) add(o observation) {
	m.Sensor, m.At, m.N = o.Sensor, o.At, o.N
	m.Values[o.Kind], m.Have[o.Kind] = o.Value, !o.Missing
	if o.Filled {
		m.Filled++
	}
}

func (m *whole) merge(o *whole) {
	for k := range o.Have {
		if o.Have[k] {
			m.Values[k], m.Have[k] = o.Values[k], true
		}
	}
	m.Sensor, m.At, m.N, m.Filled = o.Sensor, o.At, o.N, m.Filled+o.Filled
}

func (m *whole) result() whole { return *m }

// etl is extraction, transformation and loading.
func etl(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	names, known := s.sensors()
	filter := newBloom(names)
	ranged := operators.Update(observations(t, l, s), "range", func(_ context.Context, o *observation) error {
		limits := &observed[o.Kind]
		o.Missing = o.Value < limits.least || o.Value > limits.most
		return nil
	})
	ours := operators.Filter(ranged, "bloom", func(o observation) bool { return filter.has(o.Sensor) })
	completed := operators.Stateful(flow.KeyBy(ours, nameOf), "interpolated", 0, func(_ context.Context, c *operators.Cell[string, past, observation], o observation) error {
		c.State.complete(&o)
		c.Emit(o)
		return nil
	})
	bySensor := flow.KeyBy(completed, func(o observation) string { return o.Sensor })
	messages := operators.Window(bySensor, "joined", window.Count(kinds), agg.Func((*whole).add, (*whole).merge, (*whole).result))
	annotated := operators.Enrich(messages, "annotated", operators.Table[string, meta](known), func(r window.Result[string, whole]) string { return r.Key },
		func(r window.Result[string, whole], of meta, _ bool) (whole, error) {
			m := r.Value
			m.City, m.Lat, m.Lon = of.City, of.Lat, of.Lon
			return m, nil
		})
	c := senml.JSON()
	return operators.Map(annotated, "published", func(_ context.Context, m whole) (Row, error) {
		pack := m.pack()
		text, err := c.Append(nil, &pack)
		return Row{Key: m.Sensor, At: m.At, Count: m.Filled, Text: string(text), N: m.N}, err
	})
}

// pack is the message as SenML.
func (m *whole) pack() senml.Pack {
	city := m.City
	p := senml.Pack{
		{BaseName: m.Sensor + ":", BaseTime: float64(m.At) / float64(time.Second/time.Millisecond), Name: "city", Text: &city},
		{Name: "lat", Unit: "lat", Value: &m.Lat}, {Name: "lon", Unit: "lon", Value: &m.Lon},
	}
	for k := range m.Values {
		if m.Have[k] {
			p = append(p, senml.Entry{Name: observed[k].name, Unit: observed[k].unit, Value: &m.Values[k]})
		}
	}
	return p
}
