package harness

import (
	"bytes"
	"math/bits"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/millrace-stream/millrace/flow"
)

// Meter is told what came out. It is safe for concurrent use, and a hook of topologies for what epochs cost.
type Meter struct {
	load *Load
	mu   sync.Mutex
	// latency of open loads, in microseconds, of events behind the warm-up; recent is that of the last second.
	latency *hdrhistogram.Histogram
	halves  [2]*hdrhistogram.Histogram
	seen    []uint64
	out     int64
	repeats int64
	each    bool
	epochs  Epochs
	// pauses and times of epochs, in microseconds.
	times *hdrhistogram.Histogram
	from  usage
	began time.Time
	at    int64 // events taken when the measurement began
	// own: the scenario says when the measurement begins.
	own bool
	// to is what there was at the end, once ended.
	to    *state
	start chan struct{} // closed at the first event
	// profile is nil where none is wanted; nodes is what it tells.
	profile *profiler
	// outside is the processor time of other processes, nil if none counts.
	outside atomic.Pointer[func() time.Duration]
	nodes   []NodeTime
}

// state is what there was at one moment.
type state struct {
	used  usage
	at    time.Time
	taken int64
	rss   int64
}

// NewMeter makes the meter of a load.
func NewMeter(l *Load) *Meter {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3) }
	m := &Meter{load: l, latency: h(), halves: [2]*hdrhistogram.Histogram{h(), h()}, times: h(), start: make(chan struct{})}
	l.first = func() { // what a scenario does before its first event is not measured
		if m.profile != nil {
			m.profile.start()
		}
		m.begin(false)
		close(m.start)
	}
	return m
}

// Begin begins the measurement now, whatever the warm-up: for scenarios that warm up by themselves. It must come before the first event.
func (m *Meter) Begin() { m.begin(true) }

// End ends the measurement, before the scenario returns: checking the results is not measured.
func (m *Meter) End() {
	s := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.to != nil {
		return
	}
	m.to = s
	if m.profile != nil {
		m.nodes = m.profile.stop()
	}
}

func (m *Meter) now() *state { return &state{m.used(), time.Now(), m.load.Taken(), peakRSS()} }

// Count is Done for n results that nobody asks the time of: with closed loads, where each event need not come out once.
func (m *Meter) Count(n int64) {
	m.mu.Lock()
	m.out += n
	m.mu.Unlock()
}

// EachOnce says that every event must come out once: what is missing in the end is lost, what comes again is counted.
func (m *Meter) EachOnce() {
	m.mu.Lock()
	m.each = true
	m.mu.Unlock()
}

// Done tells that what was made of events is durable.
func (m *Meter) Done(events ...int64) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out += int64(len(events))
	open := m.load.Open()
	for _, i := range events {
		if m.each {
			m.mark(i)
		}
		if !open {
			continue
		}
		due := m.load.Due(i)
		since := due.Sub(m.load.began) - m.load.warmUp
		if since < 0 {
			continue
		}
		us := max(now.Sub(due).Microseconds(), 1)
		_ = m.latency.RecordValue(us)
		half := 0
		if since > m.load.duration/2 {
			half = 1
		}
		_ = m.halves[half].RecordValue(us)
	}
}

func (m *Meter) mark(i int64) {
	for int(i/64) >= len(m.seen) {
		m.seen = append(m.seen, make([]uint64, len(m.seen)+1024)...)
	}
	bit := uint64(1) << (i % 64)
	if m.seen[i/64]&bit != 0 {
		m.repeats++
	}
	m.seen[i/64] |= bit
}

func (m *Meter) lost() int64 {
	if !m.each {
		return 0
	}
	var n int64
	for _, w := range m.seen {
		n += int64(bits.OnesCount64(w))
	}
	return m.load.Taken() - n
}

// OnEpoch implements flow.EpochHook: give the meter to flow.WithHooks.
func (m *Meter) OnEpoch(e flow.EpochInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs.N++
	pause := e.Drain + e.Collect
	m.epochs.Pause += pause
	m.epochs.LongestPause = max(m.epochs.LongestPause, pause)
	m.epochs.Write += e.Write
	m.epochs.Bytes += int64(e.ChangeBytes)
	_ = m.times.RecordValue(max((pause + e.Deliver + e.Write + e.Ack).Microseconds(), 1))
}

// Epochs is what checkpoints cost.
type Epochs struct {
	N            int           `json:"n"`
	Pause        time.Duration `json:"pause_ns"`
	LongestPause time.Duration `json:"longest_pause_ns"`
	Write        time.Duration `json:"write_ns"`
	Bytes        int64         `json:"bytes"`
	// P50 and Longest are of an epoch's whole time, from its trigger to its acks, in microseconds.
	P50     int64 `json:"p50_us,omitempty"`
	Longest int64 `json:"max_us,omitempty"`
}

// usage is what the process has used so far.
type usage struct {
	cpu    time.Duration
	gc     float64 // seconds
	allocs uint64
	bytes  uint64
}

func used() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return usage{
		cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), gc: s[0].Value.Float64(), allocs: s[1].Value.Uint64(), bytes: s[2].Value.Uint64(),
	}
}

// Outside counts the processor time of other processes too, of which f tells how much they have had so far. Call it before the first event. Memory and
// allocations remain those of this process.
func (m *Meter) Outside(f func() time.Duration) {
	m.outside.Store(&f)
}

// used is what this process has used so far, and what Outside counts.
func (m *Meter) used() usage {
	u := used()
	if f := m.outside.Load(); f != nil {
		u.cpu += (*f)()
	}
	return u
}

// forgetPeak makes the memory that earlier runs had no part of this one's: what is free goes back to the system, and the peak counts from
// now. Where the system cannot, the peak is that of the process.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakRSS is the most memory that the process has had since forgetPeak, in bytes.
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}

// begin starts the measurement: at the first event, behind the warm-up, or when the scenario says so.
func (m *Meter) begin(own bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.own && !own || m.to != nil {
		return
	}
	m.own = own
	m.from, m.began, m.at = m.used(), time.Now(), m.load.Taken()
	m.epochs = Epochs{}
	m.times.Reset()
}
