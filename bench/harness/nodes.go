package harness

import (
	"cmp"
	"slices"
)

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
