package flow

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// partitionTime is where a partition stands in event time, for others to look at.
type partitionTime struct {
	node   string
	marked atomic.Int64
	idle   atomic.Bool
	drift  atomic.Int64
}

// publish says where the partition stands.
func (s *timeStage[T]) publish() {
	s.seen.marked.Store(int64(s.marked))
	s.seen.idle.Store(s.idle)
	if s.t.u.aligning.Load() > 0 {
		for _, u := range s.t.u.all() {
			u.lookAgain()
		}
	}
}

// ahead tells whether a partition is more than its drift ahead of others that align.
func (e *engine) ahead(p *partition) bool {
	all := e.partitions()
	if !slices.Contains(all, p) {
		return false // it is being removed
	}
	for _, own := range p.times {
		drift := Timestamp(own.drift.Load())
		if drift <= 0 {
			continue
		}
		marked := Timestamp(own.marked.Load())
		for _, o := range all {
			if o == p || o.ended.Load() {
				continue
			}
			for _, t := range o.times {
				wm := Timestamp(t.marked.Load())
				if t.drift.Load() > 0 && !t.idle.Load() && wm != None && marked > wm.Add(time.Duration(drift)) {
					return true
				}
			}
		}
	}
	return false
}

// align waits until a partition is near enough to the others. It returns false when the topology stops.
func (u *unit) align(p *partition) bool {
	if !p.aligned() || !u.ahead(p) {
		return true
	}
	u.aligning.Add(1)
	defer u.aligning.Add(-1)
	u.processed(1) // what waits here is not in flight
	defer u.handed.Add(1)
	u.count(p.src.node().name, "aligned", 1)
	for {
		u.changeMu.Lock()
		changed := u.changed
		u.changeMu.Unlock()
		if u.stopped.Load() || !u.ahead(p) {
			return u.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-u.readCtx.Done():
			return u.ctx.Err() == nil
		}
	}
}

func (p *partition) aligned() bool {
	for _, t := range p.times {
		if t.drift.Load() > 0 {
			return true
		}
	}
	return false
}

// partitions are those being read, of all units.
func (e *engine) partitions() []*partition {
	e.partMu.Lock()
	defer e.partMu.Unlock()
	return e.reading
}

// enlist and delist keep the list of the partitions being read; the slice itself is never changed.
func (e *engine) enlist(p *partition) {
	e.partMu.Lock()
	defer e.partMu.Unlock()
	e.reading = append(e.reading[:len(e.reading):len(e.reading)], p)
}

func (e *engine) delist(p *partition) {
	e.partMu.Lock()
	e.reading = without(e.reading, p)
	e.partMu.Unlock()
	for _, u := range e.all() {
		u.lookAgain()
	}
}

// WatermarkInfo is where a node, or one partition of it, stands in event time.
type WatermarkInfo struct {
	Node string
	// Partition is the source partition at a node of AssignTime, empty at others.
	Partition string
	// Watermark is None as long as there is none.
	Watermark Timestamp
	// Idle partitions hold nobody back.
	Idle bool
	// HeldBy names the input with the least watermark, of a node behind an exchange: "source/partition", "node#task", or "source" alone
	// where that has not named its partitions yet.
	HeldBy string
}

// Watermarks tells where event time stands: at each AssignTime by partition, and at each node behind an exchange, with the input that holds
// it back. Sorted by node and partition. It asks the tasks, and so waits for the messages that they are working on.
func (r *Running) Watermarks() []WatermarkInfo {
	var mu sync.Mutex
	var l []WatermarkInfo
	for _, p := range r.e.partitions() {
		for _, t := range p.times {
			l = append(l, WatermarkInfo{Node: t.node, Partition: p.p.ID, Watermark: Timestamp(t.marked.Load()), Idle: t.idle.Load()})
		}
	}
	r.e.root.do(func() {
		var wg sync.WaitGroup
		for _, x := range r.e.exchanges {
			if x.fused || len(x.tasks) == 0 {
				continue
			}
			wg.Add(1)
			r.e.root.post(x.tasks[0], control(func(*task) {
				defer wg.Done()
				i := x.watermark()
				mu.Lock()
				defer mu.Unlock()
				for _, n := range x.nodes {
					i.Node = n
					l = append(l, i)
				}
			}))
		}
		r.e.root.waitFor(&wg)
	})
	mu.Lock()
	defer mu.Unlock()
	sort.Slice(l, func(i, j int) bool {
		if l[i].Node != l[j].Node {
			return l[i].Node < l[j].Node
		}
		return l[i].Partition < l[j].Partition
	})
	return l
}

// watermark tells where an exchange stands. It runs in its first task.
func (x *exchange) watermark() WatermarkInfo {
	v := &x.gates[0].valve
	i := WatermarkInfo{Watermark: None, Idle: v.idle}
	if v.some {
		i.Watermark = v.out
	}
	least := EndOfTime
	for name, n := range x.ins {
		if in := v.in[n]; in.aligned && !in.idle && !in.gone && (in.wm < least || in.wm == least && name < i.HeldBy) {
			least, i.HeldBy = in.wm, name
		}
	}
	for name := range x.sources {
		i.HeldBy = name
	}
	return i
}
