package workload

import "math"

// The floors are the jobs as a hand-written loop on one thread would do them, without watermarks, late data, epochs or anything
// else that an engine is for: the lower bound that engines are measured against. Making the events is part of them.

// FloorA is job A.
func FloorA(g *Generator, n int64) Result {
	var r Result
	var e Event
	for i := range n {
		g.Fill(i, &e)
		e.Temperature = e.Temperature*1.8 + 32
		if e.Humidity >= 50 {
			continue
		}
		e.Humidity = e.Temperature*0.5 + e.Humidity*0.1
		r.Out++
		r.Sum += e.Humidity
	}
	return r
}

// stats is the accumulator of the B jobs. n is 0 in a device that has no event in the window.
type stats struct {
	sum, max, min float64
	n             int64
}

func (s *stats) add(t float64) {
	if s.n == 0 {
		s.max, s.min = t, t
	}
	if t > s.max {
		s.max = t
	}
	if t < s.min {
		s.min = t
	}
	s.sum += t
	s.n++
}

// minutes is the state of a tumbling window of a minute: one accumulator per device, by dense number, and who has one.
type minutes struct {
	ids  map[string]uint32
	acc  []stats
	live []uint32
	end  int64
	r    Result
}

func newMinutes(devices int) *minutes {
	return &minutes{ids: make(map[string]uint32, devices), acc: make([]stats, 0, devices), live: make([]uint32, 0, devices),
		end: math.MinInt64}
}

func (m *minutes) id(device string) uint32 {
	id, ok := m.ids[device]
	if !ok {
		id = uint32(len(m.acc))
		m.ids[device] = id
		m.acc = append(m.acc, stats{})
	}
	return id
}

func (m *minutes) add(id uint32, t float64) {
	s := &m.acc[id]
	if s.n == 0 {
		m.live = append(m.live, id)
	}
	s.add(t)
}

// advance closes the window when ts is behind it.
func (m *minutes) advance(ts int64) {
	if ts >= m.end {
		m.flush()
		m.end = ts - ts%60_000 + 60_000
	}
}

func (m *minutes) flush() {
	for _, id := range m.live {
		s := &m.acc[id]
		m.r.Out++
		m.r.Sum += s.sum/float64(s.n) + s.max + s.min + float64(s.n)
		*s = stats{}
	}
	m.live = m.live[:0]
}

// FloorB is job B10k or B1m, record by record.
func FloorB(g *Generator, n int64) Result {
	m := newMinutes(len(g.devices))
	var e Event
	for i := range n {
		g.Fill(i, &e)
		m.advance(e.TS)
		m.add(m.id(e.Device), e.Temperature)
	}
	m.flush()
	return m.r
}

// FloorBBatches is FloorB in batches of 256: first all numbers are looked up, then all accumulators updated, so that cache misses
// overlap.
func FloorBBatches(g *Generator, n int64) Result {
	m := newMinutes(len(g.devices))
	var batch [256]Event
	var ids [256]uint32
	for i := int64(0); i < n; {
		in := batch[:min(n-i, int64(len(batch)))]
		for j := range in {
			g.Fill(i, &in[j])
			i++
		}
		for j := range in {
			ids[j] = m.id(in[j].Device)
		}
		for j := range in {
			m.advance(in[j].TS)
			m.add(ids[j], in[j].Temperature)
		}
	}
	m.flush()
	return m.r
}

// FloorC is job C by slices of a second: an event is added to one accumulator, and each second the last sixty of a device are merged.
func FloorC(g *Generator, n int64) Result {
	const slices = 60
	var r Result
	devices := len(g.devices)
	ids := make(map[string]uint32, devices)
	acc := make([]stats, slices*devices) // by second and device
	second := Start / 1000
	// fire ends the second and gives the windows that end with it.
	fire := func() {
		for id := range len(ids) {
			var s stats
			for i := range slices {
				if a := &acc[i*devices+id]; a.n > 0 {
					s.merge(a)
				}
			}
			if s.n > 0 {
				r.Out++
				r.Sum += s.sum/float64(s.n) + s.max + s.min + float64(s.n)
			}
		}
		second++
		at := int(second%slices) * devices
		clear(acc[at : at+devices])
	}
	var e Event
	for i := range n {
		g.Fill(i, &e)
		for e.TS/1000 > second {
			fire()
		}
		id, ok := ids[e.Device]
		if !ok {
			id = uint32(len(ids))
			ids[e.Device] = id
		}
		acc[int(second%slices)*devices+int(id)].add(e.Temperature)
	}
	for range slices {
		fire()
	}
	return r
}

func (s *stats) merge(o *stats) {
	if s.n == 0 {
		*s = *o
		return
	}
	s.max, s.min = max(s.max, o.max), min(s.min, o.min)
	s.sum += o.sum
	s.n += o.n
}

// FloorD is job D with exact ids: one word of device number and sequence number, in two generations of an open-addressing
// table that change places every 5 s of event time.
func FloorD(g *Generator, n int64) Result {
	ids := make(map[string]uint64, len(g.devices))
	perGeneration := 5 * int(g.rate)
	now, before := newWords(perGeneration), newWords(perGeneration)
	end := Start + 5_000
	var r Result
	var e Event
	for i := range n {
		g.Fill(i, &e)
		if e.TS >= end {
			now, before = before, now
			now.clear()
			end += 5_000
		}
		id, ok := ids[e.Device]
		if !ok {
			id = uint64(len(ids))
			ids[e.Device] = id
		}
		word := (id+1)<<40 | uint64(e.Seq)
		if before.has(word) || !now.add(word) {
			continue
		}
		r.Out++
		r.Sum += e.Humidity
	}
	return r
}

// words is a set of words that are not 0.
type words struct {
	slots []uint64
	shift uint
}

// newWords makes room for n words at a load of at most one half.
func newWords(n int) *words {
	w := &words{shift: 63}
	for 1<<(64-w.shift) < 2*n {
		w.shift--
	}
	w.slots = make([]uint64, 1<<(64-w.shift))
	return w
}

func (w *words) find(word uint64) *uint64 {
	at := word * 0x9E3779B97F4A7C15 >> w.shift
	for {
		s := &w.slots[at]
		if *s == 0 || *s == word {
			return s
		}
		if at++; at == uint64(len(w.slots)) {
			at = 0
		}
	}
}

func (w *words) has(word uint64) bool { return *w.find(word) != 0 }

func (w *words) add(word uint64) bool {
	s := w.find(word)
	if *s != 0 {
		return false
	}
	*s = word
	return true
}

func (w *words) clear() { clear(w.slots) }
