package operators

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/rule"
)

// Rules evaluates rules that people write and change while the topology runs, and emits their alarms: raised, updated, cleared, each change
// once and under one id. What a rule may say stands in package rule and in docs/operators/rules.md; from says where rules come from:
//
//	alarms := operators.Rules(byDevice, "alarms", rule.File("rules.yaml"))
//
// Order: a key's records are taken as they come, and its alarms come in that order. Where a rule has something going for a key, it passes over
// records that are older than the newest one it has taken for the same key and device. What time brings about (for, cooldown, the end of
// flapping) happens when the watermark passes it, or before a record that is later: so it does not depend on how far the watermark
// lags. An alarm's record has the time of its At, which for late records is late as well; behind the end of a bounded stream all time
// has passed.
//
// Change of rules: a new set is checked whole and takes the place of the old one in all tasks between two epochs. Alarms of rules that are gone, or that select other records now, are cleared; what was pending for a
// rule that has changed begins anew; its raised alarms stay and are updated with their next record. With a Source that never changes the
// state follows at the start.
//
// Errors: an expression or template that fails for a record (a nil pointer, an index out of range) is counted (rule_errors) and logged once
// per rule and set; the rule takes the record as if it had not come. NaN compares as in Go: false. A change that does not fit goes to the
// dead letters.
//
// State: per key an entry for each rule and device whose condition is true or whose alarm is raised, cooling down or counted for flapping,
// with the record that the alarm needs; keys without any have no state. The rules in force are kept in every task and once in the store. A crash
// rolls back alarms, timers and rules to the last epoch together with the sources: what comes again has the same ids.
//
// Counters of the node: rules_in_force, rule_errors, alarms_suppressed, stale_records.
func Rules[K comparable, T any](s flow.KeyedStream[K, T], name string, from rule.Source, opts ...rule.Option) flow.Stream[rule.Alarm[K, T]] {
	cfg := flow.Configure(&rule.Config{}, opts)
	cfg.Traits = flow.Traits{Kind: "rules", EventTime: !cfg.Clock, Stateful: true, Counts: true, Loses: "alarms that are raised, and what is about to be"}
	lib := &ruleLibrary[T]{compiler: rule.NewCompiler[T](), from: from}
	device, ok := cfg.Device.(func(T) string)
	if cfg.Device != nil && !ok {
		cfg.Problem(fmt.Sprintf("rule.Device has a %T", cfg.Device), fmt.Sprintf("pass a func(%v) string", reflect.TypeFor[T]()))
	}
	code, ok := cfg.Code.(codec.Codec[T])
	switch {
	case cfg.Code == nil:
		code = codec.CBOR[T]()
		if _, err := code.Append(nil, new(T)); err != nil {
			cfg.Problem(fmt.Sprintf("its records cannot be stored: %v", err), "give a codec, by rule.RecordCodec")
		}
	case !ok:
		cfg.Problem(fmt.Sprintf("rule.RecordCodec has a %T", cfg.Code), fmt.Sprintf("pass a codec of %v", reflect.TypeFor[T]()))
	}
	newOp := func() *rules[K, T] {
		return &rules[K, T]{lib: lib, byClock: cfg.Clock, device: device, code: code, wm: flow.None}
	}
	if from == nil {
		cfg.Problem("it has no rules", "pass a rule.Source, like rule.File(\"rules.yaml\")")
		return flow.ApplyKeyed[K, T, rule.Alarm[K, T]](s, name, newOp, flow.With(cfg))
	}
	control := from.Control(s.Unkeyed().Topology(), name, lib.compiler.Check)
	if control != nil {
		return flow.ApplyBroadcast[K, T, rule.Change, rule.Alarm[K, T]](s, control, name, func() *rulesControlled[K, T] {
			return &rulesControlled[K, T]{rules: *newOp()}
		}, flow.With(cfg))
	}
	if _, err := lib.initial(); err != nil {
		var ps rule.Problems
		if !errors.As(err, &ps) {
			cfg.Problem(err.Error(), "")
		}
		for _, p := range ps {
			cfg.Problem(p.Error(), "")
		}
	}
	return flow.ApplyKeyed[K, T, rule.Alarm[K, T]](s, name, newOp, flow.With(cfg))
}
