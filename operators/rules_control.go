package operators

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/rule"
)

// rulesControlled is a task of Rules whose set changes: the rules are shared state, which a control stream changes. A change comes in force
// in all tasks when the epoch ends that it came in.
type rulesControlled[K comparable, T any] struct {
	rules[K, T]
	set     flow.Shared[string, rule.Rule]
	changed bool // since the last epoch
}

// Open implements flow.Opener.
func (o *rulesControlled[K, T]) Open(_ context.Context, rt flow.Runtime) error {
	if err := o.open(rt); err != nil {
		return err
	}
	if err := flow.OpenShared(rt, "rules", &o.set); err != nil {
		return err
	}
	rt.AtEpoch(func() {
		if o.changed {
			o.due, o.changed = true, false
			o.observe(o.all())
		}
	})
	o.merge = o.merged
	if o.set.Len() > 0 {
		err := o.begin(o.all())
		if err == nil {
			return nil
		}
		// The record type may have changed, and with it the source.
		initial, e := o.lib.initial()
		if e != nil || len(initial) == 0 {
			return fmt.Errorf("the stored rules do not fit the records any more: %w: give a source with rules that do, or drop the node's state", err)
		}
		rt.Log().Warn("the stored rules do not fit the records any more, those of the source take their place", "err", err)
		return o.start(initial)
	}
	initial, err := o.lib.initial()
	if err != nil {
		return err
	}
	return o.start(initial)
}

// start begins with rules that are not stored yet.
func (o *rulesControlled[K, T]) start(initial []rule.Rule) error {
	o.put(&rule.Change{Whole: true, Put: initial})
	return o.begin(initial)
}

// all are the shared rules in order.
func (o *rulesControlled[K, T]) all() []rule.Rule {
	all := make([]rule.Rule, 0, o.set.Len())
	for _, r := range o.set.All() {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b rule.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// merged is the set of the shared rules, each of which was checked.
func (o *rulesControlled[K, T]) merged() *rule.Set[T] {
	set, err := o.lib.compiler.Merged(o.all())
	if err != nil { // it cannot be: each was checked
		o.rt.Log().Error("a set of rules is not taken, the rules before stay in force", "err", err)
		return o.inForce
	}
	return set
}

// ProcessBroadcast implements flow.BroadcastOperator.
func (o *rulesControlled[K, T]) ProcessBroadcast(_ context.Context, r *flow.Record[rule.Change], out *flow.Output[rule.Alarm[K, T]]) error {
	if err := o.lib.compiler.Check(r.Value); err != nil {
		return err
	}
	o.turn(out) // what the epoch before has brought
	if o.put(&r.Value) {
		o.changed = true
	}
	return nil
}

// put changes the shared rules.
func (o *rulesControlled[K, T]) put(c *rule.Change) (changed bool) {
	gone := c.Remove
	if c.Whole {
		keep := make(map[string]bool, len(c.Put))
		for i := range c.Put {
			keep[c.Put[i].ID] = true
		}
		gone = nil
		for id := range o.set.All() {
			if !keep[id] {
				gone = append(gone, id)
			}
		}
	}
	for _, id := range gone {
		if _, ok := o.set.Get(id); ok {
			o.set.Delete(id)
			changed = true
		}
	}
	for i := range c.Put {
		id := c.Put[i].ID
		if had, ok := o.set.Get(id); !ok || !had.Equal(&c.Put[i]) {
			o.set.Put(id, c.Put[i])
			changed = true
		}
	}
	return changed
}
