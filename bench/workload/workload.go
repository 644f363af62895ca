// Package workload is the reference workload: events that every program can make in the same way from their number, jobs over
// them, and what each job must bring out. Results of different programs, in different languages, can be compared by it.
//
// Times are in milliseconds as in the definition; the events of a job are in time order, and its windows are all flushed at the end.
package workload

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Event is one reading of a device.
type Event struct {
	Device string
	// TS is the event time in milliseconds since the Unix epoch.
	TS int64
	// Temperature is within [20, 100), Humidity within [0, 100).
	Temperature float64
	Humidity    float64
	Seq         int64
}

// Time is TS as a time.Time.
func (e Event) Time() time.Time { return time.UnixMilli(e.TS) }

// Start is the time of event 0 in milliseconds: the beginning of a minute.
const Start int64 = 1699999980000

// Job is one job of the workload.
type Job struct {
	Name string
	// What it does, in words.
	What string
	// Keys is the number of devices, Rate the number of events per second of event time.
	Keys int
	Rate int64
	// Duplicates makes every twentieth event repeat the one ten before it, at its own time.
	Duplicates bool

	expect map[int64]Result
	// digits is how many decimals of the sums are known.
	digits int
}

// Result is what a job brings out: the number of its outputs and a sum over them that the job defines. Jobs without a sum
// have 0.
type Result struct {
	Out int64
	Sum float64
}

// N is the number of events for which every job's result is known.
const N int64 = 1_000_000

// A is the stateless job: temperature = temperature*1.8+32; keep humidity < 50; humidity = temperature*0.5 + humidity*0.1.
// Sum: the humidity of what is kept.
func A() Job {
	return Job{Name: "A", What: "update, filter, update", Keys: 10_000, Rate: 10_000,
		expect: map[int64]Result{N: {499_340, 36_194_798.072}}, digits: 3}
}

// B10k is the window job with 10,000 devices: by device, tumbling windows of a minute, average, maximum, minimum and count of the
// temperature. Sum: avg + max + min + count of all windows.
func B10k() Job {
	return Job{Name: "B10k", What: "tumbling window of 1 min by 10k devices", Keys: 10_000, Rate: 10_000,
		expect: map[int64]Result{N: {20_000, 4_600_411.304}}, digits: 3}
}

// B1m is B10k with 1,000,000 devices and 100,000 events per second.
func B1m() Job {
	return Job{Name: "B1m", What: "tumbling window of 1 min by 1m devices", Keys: 1_000_000, Rate: 100_000,
		expect: map[int64]Result{N: {631_749, 114_724_566.311}, 10 * N: {1_979_356, 366_230_435.829}}, digits: 3}
}

// C is B10k with sliding windows of 60 s every second, 100 devices and 1,000 events per second.
func C() Job {
	return Job{Name: "C", What: "sliding window of 60 s / 1 s by 100 devices", Keys: 100, Rate: 1_000,
		expect: map[int64]Result{N: {105_900, 79_060_110.043}}, digits: 3}
}

// D drops repeats by (device, seq), with a TTL of at least 5 s. Sum: the humidity of what passes.
func D() Job {
	return Job{Name: "D", What: "dedup by (device, seq), 5 % repeats", Keys: 10_000, Rate: 100_000, Duplicates: true,
		expect: map[int64]Result{N: {950_000, 47_520_431.912}}, digits: 3}
}

// En matches, per device, three events of more than 90 degrees within 10 s, each the next of the one before; matches may
// overlap.
func En() Job {
	return Job{Name: "En", What: "CEP: hot three times by Next within 10 s", Keys: 10_000, Rate: 10_000,
		expect: map[int64]Result{N: {1_918, 0}}}
}

// Ef is En with FollowedBy in place of Next.
func Ef() Job {
	return Job{Name: "Ef", What: "CEP: hot three times by FollowedBy within 10 s", Keys: 10_000, Rate: 10_000,
		expect: map[int64]Result{N: {41_659, 0}}}
}

// F decodes JSON (Payloads), converts the temperature by t*1.8+32 and goes on as B10k.
func F() Job {
	return Job{Name: "F", What: "decode JSON, update, tumbling window as B10k", Keys: 10_000, Rate: 10_000,
		expect: map[int64]Result{N: {19_976, 9_377_893.7}}, digits: 1}
}

// All returns the jobs in order.
func All() []Job { return []Job{A(), B10k(), B1m(), C(), D(), En(), Ef(), F()} }

// Expected is the job's result after n events, where it is known.
func (j Job) Expected(n int64) (Result, bool) {
	r, ok := j.expect[n]
	return r, ok
}

// Verify compares a result with the expected one; sums may differ by the order of additions and by what the expectation was
// rounded to. Where nothing is known of n, anything is right.
func (j Job) Verify(n int64, got Result) error {
	want, ok := j.Expected(n)
	if !ok {
		return nil
	}
	off := math.Abs(got.Sum - want.Sum)
	if got.Out != want.Out || !(off <= 0.51*math.Pow10(-j.digits)+1e-10*want.Sum) {
		return fmt.Errorf("job %s at %d events: got %d outputs and sum %.3f, want %d and %.3f",
			j.Name, n, got.Out, got.Sum, want.Out, want.Sum)
	}
	return nil
}

// Generator makes the events of a job. It is read-only after New and safe for concurrent use.
type Generator struct {
	keys       uint64
	rate       int64
	duplicates bool
	devices    []string
}

// New makes the generator of a job, with its table of device names.
func New(j Job) *Generator {
	g := &Generator{keys: uint64(j.Keys), rate: j.Rate, duplicates: j.Duplicates, devices: make([]string, j.Keys)}
	const width = len("dev-0000000")
	var all strings.Builder
	all.Grow(j.Keys * width)
	for i := range j.Keys {
		fmt.Fprintf(&all, "dev-%07d", i)
	}
	names := all.String()
	for i := range g.devices {
		g.devices[i] = names[i*width : (i+1)*width]
	}
	return g
}

// Devices are the names of all devices, by number.
func (g *Generator) Devices() []string { return g.devices }

// Next returns event i.
func (g *Generator) Next(i int64) Event {
	var e Event
	g.Fill(i, &e)
	return e
}

// Fill makes *e event i. It allocates nothing.
func (g *Generator) Fill(i int64, e *Event) {
	of := i
	if g.duplicates && i%20 == 19 {
		of = i - 10
	}
	h := hash(of)
	e.Device = g.devices[(h>>32)*g.keys>>32]
	e.TS = Start + i*1000/g.rate
	e.Temperature = 20 + float64(h&0xFFFF)*(80.0/65536)
	e.Humidity = float64(h>>16&0xFFFF) * (100.0 / 65536)
	e.Seq = of
}

// hash is the finalizer of splitmix64.
func hash(i int64) uint64 {
	z := uint64(i+1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}
