package operators

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
)

// CEPSet is CEP with several patterns, which changes put in force and take out of it while the topology runs: see cep.Set and cep.Change. f is told
// by Match.Pattern and Match.Version what has matched. All patterns share the events that wait, and each event is offered to all.
//
// A change comes in force in each task when the epoch ends that it came in, before the first event behind it. What is in force is part of the
// state. A change that names no pattern of the set goes to the dead letters.
//
// Order, for each pattern by itself, state, errors and what a crash does are those of CEP; the limits hold per pattern and key, and in total.
func CEPSet[K comparable, T, R any](s flow.KeyedStream[K, T], name string, set cep.Set[T], changes flow.Stream[cep.Change],
	f func(ctx context.Context, m cep.Match[K, T]) (R, error), opts ...cep.Option) Matched[K, T, R] {
	all, problems := set.Compile()
	progs := make([]program[T], len(all))
	var within flow.Traits
	for i, c := range all {
		progs[i] = program[T]{c.Name, c.Version, c.Program, c.InForce}
		if c.Program != nil {
			within.Horizon = max(within.Horizon, c.Program.Within())
		}
	}
	b := configurePatterns(s, name, progs, problems, f, opts)
	if b.cfg.Clock {
		b.cfg.Problem("cep.ProcessingTime on a set of patterns", "take it out: a set runs in event time")
	}
	b.cfg.Traits.Horizon = within.Horizon
	out := flow.ApplyBroadcast[K, T, cep.Change, R](s, changes, name, func() *patternSet[K, T, R] {
		return &patternSet[K, T, R]{patterns: b.make(), set: set, changed: map[string]bool{}}
	}, flow.With(b.cfg))
	return Matched[K, T, R]{out, b.almost, b.late}
}

// patternSet is a task of CEPSet.
type patternSet[K comparable, T, R any] struct {
	*patterns[K, T, R]
	set     cep.Set[T]
	inForce flow.Shared[string, versions]
	// changed are the patterns that changes of this epoch name.
	changed map[string]bool
}

// versions is what changes have said of a pattern: the version in force, and those whose partial matches are dropped.
type versions struct {
	InForce string
	Dropped []string
}

// Open implements flow.Opener.
func (p *patternSet[K, T, R]) Open(ctx context.Context, rt flow.Runtime) error {
	if err := p.patterns.Open(ctx, rt); err != nil {
		return err
	}
	if err := flow.OpenShared(rt, "in-force", &p.inForce); err != nil {
		return err
	}
	p.switchOver()
	rt.AtEpoch(func() {
		if len(p.changed) > 0 {
			p.switchOver()
			p.counted()
		}
	})
	return nil
}

// ProcessBroadcast implements flow.BroadcastOperator.
func (p *patternSet[K, T, R]) ProcessBroadcast(_ context.Context, r *flow.Record[cep.Change], _ *flow.Output[R]) error {
	c := r.Value
	if err := p.set.Check(c); err != nil || c.Name == "" {
		return err
	}
	v := versions{InForce: c.Version}
	if before, ok := p.inForce.Get(c.Name); ok && p.changed[c.Name] {
		v.Dropped = before.Dropped // by another change of the same epoch
	}
	for _, l := range p.lanes {
		if l.name == c.Name && l.version != c.Version && c.Drop {
			v.Dropped = append(v.Dropped, l.version)
		}
	}
	v.Dropped = slices.DeleteFunc(slices.Clone(v.Dropped), func(version string) bool { return version == c.Version })
	p.inForce.Put(c.Name, v)
	p.changed[c.Name] = true
	return nil
}

// switchOver puts in force what changes have said.
func (p *patternSet[K, T, R]) switchOver() {
	clear(p.changed)
	for _, l := range p.lanes {
		v, ok := p.inForce.Get(l.name)
		if !ok {
			continue
		}
		l.machine.NoStarts = l.version != v.InForce
		if slices.Contains(v.Dropped, l.version) {
			p.drop(l)
		}
	}
	p.offer()
}

// drop ends all partial matches of a pattern.
func (p *patterns[K, T, R]) drop(l *lane[T]) {
	for key := range l.runs {
		r := l.runs[key].run
		if r == nil {
			continue
		}
		n := r.Partials()
		p.total -= n
		l.machine.Dropped += int64(n)
		key := flow.Slot(key)
		l.parts[key%flow.PageSize].Touch(key.Page())
		l.clear(key)
		p.keys.Release(key)
	}
}

// patternsOf is what CEP and CEPSet have in common.
type patternsOf[K comparable, T, R any] struct {
	cfg    *cep.Config
	make   func() *patterns[K, T, R]
	almost flow.Stream[cep.Match[K, T]]
	late   flow.Stream[flow.Late[T]]
}

func configurePatterns[K comparable, T, R any](s flow.KeyedStream[K, T], name string, progs []program[T], problems []string,
	f func(ctx context.Context, m cep.Match[K, T]) (R, error), opts []cep.Option) patternsOf[K, T, R] {
	cfg := flow.Configure(&cep.Config{PerKey: cep.DefaultPerKey, Total: cep.DefaultTotal, Waiting: cep.DefaultWaiting}, opts)
	for _, what := range problems {
		cfg.Problem(what, "")
	}
	if f == nil {
		cfg.Problem("its function is nil", "pass a function that makes a result of a match")
	}
	order, ok := cfg.Order.(func(a, b T) int)
	if cfg.Order != nil && !ok {
		cfg.Problem(fmt.Sprintf("cep.OrderBy has a %T, which does not compare events of the input", cfg.Order), "give it a function of two events")
	}
	traces := make([]cep.Tracing[K, T], len(cfg.Traces))
	for i, t := range cfg.Traces {
		if traces[i], ok = t.(cep.Tracing[K, T]); !ok {
			cfg.Problem(fmt.Sprintf("cep.Trace has a %T, which is not of the key and event of the input", t), "give it a key of the input, and a function of cep.Line of its events")
		}
	}
	cfg.Traits = flow.Traits{Kind: "cep", EventTime: !cfg.Clock, Stateful: true, Counts: true, Loses: "partial matches, and events that wait for the watermark"}
	code := storedAs[T](cfg.Codec, &cfg.NodeConfig, "cep.EventCodec")
	timedOut, almost := flow.SideOutput[cep.Match[K, T]](s.Topology(), name, "timed-out")
	side, late := flow.SideOutput[flow.Late[T]](s.Topology(), name, "late")
	return patternsOf[K, T, R]{cfg, func() *patterns[K, T, R] {
		return newPatterns(cfg, progs, code(), f, order, traces, lateRecords[T]{side: side}, timedOut)
	}, almost, late}
}

// offer lists the patterns that an event is offered to: those in force, and those that still have partial matches.
func (p *patterns[K, T, R]) offer() {
	p.offered = p.offered[:0]
	for _, l := range p.lanes {
		if !l.machine.NoStarts || l.n > 0 {
			p.offered = append(p.offered, l)
		}
	}
}
