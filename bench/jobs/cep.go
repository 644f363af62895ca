package jobs

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

func isHot(e Event) bool { return e.Temperature > 90 }

// En is, per device, three hot events one right after the other within 10 s.
func En(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	CEP(cep.Begin("first", cep.Where(isHot)).Next("second", cep.Where(isHot)).Next("third", cep.Where(isHot)).Within(10*time.Second))(t, src, r)
}

// Ef is the same with other events between them.
func Ef(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	CEP(cep.Begin("first", cep.Where(isHot)).FollowedBy("second", cep.Where(isHot)).FollowedBy("third", cep.Where(isHot)).Within(10*time.Second))(t, src, r)
}

// CEP counts the matches of a pattern per device.
func CEP(p cep.Pattern[Event], opts ...cep.Option) func(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	return func(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
		found := operators.CEP(flow.KeyBy(timed(t, src), device), "pattern", p,
			func(_ context.Context, m cep.Match[string, Event]) (int, error) { return m.Len(), nil }, opts...)
		flow.To(found, "count", Sum(func(int) float64 { return 0 }, r))
	}
}
