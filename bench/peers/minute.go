package peers

import "github.com/millrace-stream/millrace/bench/workload"

// minute is what a device's minute comes to, for libraries that leave aggregates to their users.
type minute struct {
	number        int64
	sum, max, min float64
	n             int64
}

// add adds a temperature. When it is the first of another minute, the one before is returned.
func (m *minute) add(ts int64, t float64) (done minute, ok bool) {
	number := ts / 60_000
	if m.n > 0 && m.number != number {
		done, ok = *m, true
		*m = minute{}
	}
	if m.n == 0 {
		m.number, m.max, m.min = number, t, t
	}
	m.max, m.min = max(m.max, t), min(m.min, t)
	m.sum += t
	m.n++
	return done, ok
}

func (m *minute) total() float64 { return m.sum/float64(m.n) + m.max + m.min + float64(m.n) }

// into adds the minute to the job's result.
func (m *minute) into(r *workload.Result) {
	r.Out++
	r.Sum += m.total()
}
