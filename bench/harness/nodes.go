package harness

import (
	"bytes"
	"cmp"
	"path"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// profiler takes a profile of the processor time of one run: 100 samples a second, each the stack of what was running.
type profiler struct {
	buf     bytes.Buffer
	running bool
}

// start begins it. Where the process is profiled already there will be none.
func (p *profiler) start() { p.running = pprof.StartCPUProfile(&p.buf) == nil }

// stop ends it and tells where the time went.
func (p *profiler) stop() []NodeTime {
	if !p.running {
		return nil
	}
	p.running = false
	pprof.StopCPUProfile()
	prof, err := profile.ParseData(p.buf.Bytes())
	if err != nil {
		return nil
	}
	of, all := map[string]float64{}, 0.0
	for _, s := range prof.Sample {
		v := float64(s.Value[len(s.Value)-1])
		of[nodeOf(stack(s))] += v
		all += v
	}
	if all == 0 {
		return nil
	}
	return byShare(of, all)
}

// frame is a function on a stack, and its file.
type frame struct{ function, file string }

// stack is a sample's, from the innermost function outwards.
func stack(s *profile.Sample) (fs []frame) {
	for _, l := range s.Location {
		for _, line := range l.Line {
			if f := line.Function; f != nil {
				fs = append(fs, frame{f.Name, f.Filename})
			}
		}
	}
	return fs
}

// Kinds of nodes, and what is none.
const (
	kindSource   = "source"
	kindSink     = "sink"
	kindKeys     = "keys"
	kindExchange = "exchange"
	kindTime     = "event time"
	kindEpochs   = "epochs"
	kindRouter   = "router"
	kindEngine   = "engine"
	kindGC       = "garbage collection"
	kindRuntime  = "runtime"
	kindOther    = "other"
)

const module = "github.com/millrace-stream/millrace/"

// places tells by a file of the engine what a stack is of.
func places(file string) string {
	switch file {
	case "source_node.go", "source.go":
		return kindSource
	case "sink_node.go", "sink.go", "courier.go", "deadletter.go":
		return kindSink
	case "epoch.go", "nodestate.go":
		return kindEpochs
	case "exchange.go":
		return kindExchange
	case "time.go":
		return kindTime
	case "keyed.go", "keys.go", "hash.go":
		return kindKeys
	case "stage.go", "task.go", "unit.go", "run.go", "handlers.go":
		return kindEngine
	}
	return "" // a part of many, which what calls it decides
}

// nodeOf is the kind of node that a stack is of. A node's functions and all that they call are the node's: going outwards, the first
// function of an operator, a source, a sink or the engine decides. Operators are told by the file that they stand in, so that two Maps
// are one kind.
func nodeOf(fs []frame) string {
	kind := kindRuntime
	operator := "" // the outermost of functions that call each other: a part that operators share is the caller's
	for _, f := range fs {
		file := path.Base(f.file)
		if strings.HasPrefix(f.function, module+"operators.") {
			operator, _, _ = strings.Cut(strings.TrimSuffix(file, ".go"), "_")
			continue
		}
		if operator != "" && !strings.HasPrefix(f.function, module+"operators/") {
			return operator
		}
		switch {
		case strings.HasPrefix(f.function, module+"flow/state/"), strings.HasPrefix(f.function, "github.com/cockroachdb/pebble/"):
			return kindEpochs
		case strings.HasPrefix(f.function, module+"flow."):
			if place := places(file); place != "" {
				return place
			}
			kind = kindEngine
		case strings.HasPrefix(f.function, "github.com/ThreeDotsLabs/watermill/"):
			return kindRouter
		case strings.HasPrefix(f.function, "runtime.gcBgMarkWorker"), strings.HasPrefix(f.function, "runtime.bgsweep"), strings.HasPrefix(f.function, "runtime.bgscavenge"):
			return kindGC
		case kind == kindRuntime && !strings.HasPrefix(f.function, "runtime."):
			kind = kindOther
		}
	}
	return cmp.Or(operator, kind)
}

// meanNodes are the parts of the processor time by node, over all runs of a result.
func meanNodes(r *Result) []NodeTime {
	sum := map[string]float64{}
	runs := 0
	for i := range r.Runs {
		if len(r.Runs[i].Nodes) > 0 {
			runs++
		}
		for _, n := range r.Runs[i].Nodes {
			sum[n.Node] += n.Share
		}
	}
	return byShare(sum, float64(runs))
}

// byShare are the parts of a whole, the greatest first.
func byShare(of map[string]float64, whole float64) (ns []NodeTime) {
	for name, v := range of {
		ns = append(ns, NodeTime{name, v / whole})
	}
	slices.SortFunc(ns, func(a, b NodeTime) int { return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Node, b.Node)) })
	return ns
}
