package workload

// hot is what the E jobs look for.
func hot(e *Event) bool { return e.Temperature > 90 }

// eWithin is the time in which three of them must come, in ms.
const eWithin = 10_000

// FloorEn is job En by hand: the times of the two events before, where both were hot.
func FloorEn(g *Generator, n int64) Result {
	m := newMinutes(len(g.devices))
	before := make([][2]int64, len(g.devices)) // 0: not hot
	var r Result
	var e Event
	for i := range n {
		g.Fill(i, &e)
		b := &before[m.id(e.Device)]
		if !hot(&e) {
			*b = [2]int64{}
			continue
		}
		if b[0] != 0 && e.TS-b[0] < eWithin {
			r.Out++
		}
		b[0], b[1] = b[1], e.TS
	}
	return r
}

// FloorEf is job Ef by hand: per device the first times of those that have one hot event, and of those that have two.
func FloorEf(g *Generator, n int64) Result {
	m := newMinutes(len(g.devices))
	type firsts struct{ one, two []int64 }
	state := make([]firsts, len(g.devices))
	var r Result
	var e Event
	for i := range n {
		g.Fill(i, &e)
		s := &state[m.id(e.Device)]
		if !hot(&e) {
			continue
		}
		for _, first := range s.two {
			if e.TS-first < eWithin {
				r.Out++
			}
		}
		s.two = s.two[:0]
		for _, first := range s.one {
			if e.TS-first < eWithin {
				s.two = append(s.two, first)
			}
		}
		s.one = append(s.one[:0], e.TS)
	}
	return r
}
