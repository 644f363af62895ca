package sparkplug

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
)

// Messages joins payloads with the topics that they came on, which it takes from Record.Meta: the source must give it (Meta in the
// configuration of mqtt.Source). A payload without a topic, or on one that is not of Sparkplug B, is an error of this record.
func Messages(s flow.Stream[Payload], name string, opts ...flow.NodeOption) flow.Stream[Message] {
	return flow.Apply[Payload, Message](s, name, func() flow.OperatorFunc[Payload, Message] { return withTopic }, opts...)
}

func withTopic(_ context.Context, r *flow.Record[Payload], out *flow.Output[Message]) error {
	if r.Meta == nil {
		return errors.New("the record has no topic: set Meta in the source's configuration")
	}
	topic, err := ParseTopic(r.Meta.Key)
	if err != nil {
		return err
	}
	*out.Next(r.Time, r.Meta) = Message{topic, r.Value}
	return nil
}

// MetricsOption configures Metrics.
type MetricsOption func(flow.Configurable)

type metricsConfig struct {
	flow.NodeConfig
	limit int
}

// MaxMetricsPerNode limits how many metrics are remembered per edge node with its devices; those of a birth beyond are reported as
// Full and cannot be resolved by alias later. Defaults to 10,000.
func MaxMetricsPerNode(n int) MetricsOption {
	return MetricsOption(flow.SetOption(func(c *metricsConfig) {
		c.limit = n
		if n < 1 {
			c.Problem(fmt.Sprintf("MaxMetricsPerNode is %d", n), "give at least 1")
		}
	}))
}

// Resolved is the stream of readings, with the issues beside it.
type Resolved struct {
	flow.Stream[Reading]
	issues flow.Stream[Issue]
}

// Issues are gaps in sequence numbers, repeats, and metrics that could not be resolved. Unconnected, they are only counted
// (sparkplug_issues).
func (r Resolved) Issues() flow.Stream[Issue] { return r.issues }

// Metrics emits one reading per metric, in the order of an edge node's messages; aliases and types that data messages leave out are taken
// from its births. Births are readings themselves; commands and deaths are none.
//
// Time: a reading has its metric's own time where that is before the message's, else the message's. So values that an edge node kept back
// belong to when they were measured, and a clock that runs ahead does not get past flow.AssignTime.
//
// State: per edge node, from its birth to its death, its aliases and names (MaxMetricsPerNode) and its last sequence number. It is
// keyed by edge node, so that it comes back after a crash and nobody needs to be born again. A death counts only if its bdSeq is that of the
// last birth. Delivery: repeated messages are readings again, with an issue; where the source repeats, a Dedup by edge node, Seq and Time
// stands behind.
func Metrics(s flow.Stream[Message], name string, opts ...MetricsOption) Resolved {
	cfg := flow.Configure(&metricsConfig{limit: 10_000}, opts)
	cfg.Traits = flow.Traits{Kind: "sparkplug", Stateful: true, Loses: "aliases: edge nodes must be born again"}
	side, issues := flow.SideOutput[Issue](s.Topology(), name, "issues")
	readings := flow.ApplyKeyed[string, Message, Reading](flow.KeyBy(s, Message.EdgeNode), name, func() *resolver {
		return &resolver{limit: cfg.limit, side: side}
	}, flow.With(cfg))
	return Resolved{readings, issues}
}

type resolver struct {
	limit  int
	side   *flow.Side[Issue]
	issues *flow.Output[Issue]
	seqs   flow.State[string, sequence]
	born   flow.State[string, births]
	count  func(string, int64)

	// The message at hand.
	node string
	r    *flow.Record[Message]
	out  *flow.Output[Reading]
}

func (o *resolver) Open(_ context.Context, rt flow.Runtime) error {
	o.issues, o.count = o.side.Open(rt), rt.Count
	if err := flow.OpenState(rt, "sequence", &o.seqs); err != nil {
		return err
	}
	return flow.OpenState(rt, "births", &o.born)
}

func (o *resolver) Process(_ context.Context, node string, r *flow.Record[Message], out *flow.Output[Reading]) error {
	o.node, o.r, o.out = node, r, out
	(&tracker{o.limit, o}).take(&r.Value)
	o.r, o.out = nil, nil
	return nil
}

func (o *resolver) peekSequence() *sequence   { return o.seqs.Peek(o.node) }
func (o *resolver) changeSequence() *sequence { return o.seqs.Get(o.node) }
func (o *resolver) peekBirths() *births       { return o.born.Peek(o.node) }
func (o *resolver) changeBirths() *births     { return o.born.Get(o.node) }

func (o *resolver) forget() {
	o.seqs.Delete(o.node)
	o.born.Delete(o.node)
}

func (o *resolver) reading(v Reading) {
	at := o.r.Time
	if !v.Time.IsZero() {
		at = min(at, flow.TimestampOf(v.Time))
	}
	*o.out.Next(at, o.r.Meta) = v
}

func (o *resolver) issue(i Issue) {
	o.count("sparkplug_issues", 1)
	*o.issues.Next(o.r.Time, o.r.Meta) = i
}
