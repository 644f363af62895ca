package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// clockPatterns takes events as they come, at the time of the clock.
type clockPatterns[K comparable, T, R any] struct {
	// p is not embedded, or the engine would find the methods for event time.
	p      *patterns[K, T, R]
	clock  flow.Clock
	alarms flow.Timers[K]
	// again: the record's match has failed for now, and the engine tries the record again.
	again bool
}

// Open implements flow.Opener.
func (c *clockPatterns[K, T, R]) Open(_ context.Context, rt flow.Runtime) error {
	c.p.rt, c.p.almost, c.clock = rt, c.p.timedOut.Open(rt), rt.Clock()
	c.p.late.open(rt)
	if err := flow.OpenKeys(rt, &c.p.keys); err != nil {
		return err
	}
	if err := flow.OpenClockTimers(rt, &c.alarms); err != nil {
		return err
	}
	return c.p.open()
}

// Process implements flow.KeyedOperator.
func (c *clockPatterns[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	if !c.again {
		slot := c.p.keys.Find(key)
		c.p.wm = max(c.p.wm, flow.TimestampOf(c.clock.Now()))
		for _, l := range c.p.lanes {
			if err := c.p.process(l, slot, c.p.wm, &r.Value); err != nil {
				return err
			}
		}
		c.wake()
		c.p.counted()
	}
	c.again = false
	n, err := c.p.give(ctx, out)
	if c.again = flow.IsTransient(err); c.again {
		return err // what is out is taken back with the record
	}
	if err == nil {
		c.p.rt.Count("matches", int64(n))
	}
	clear(c.p.found)
	c.p.found = c.p.found[:0]
	return err
}

// wake sets alarms for the next moments of keys.
func (c *clockPatterns[K, T, R]) wake() {
	for e, ok := c.p.due.pop(flow.EndOfTime); ok; e, ok = c.p.due.pop(flow.EndOfTime) {
		c.alarms.Set(c.p.keys.Key(e.key), e.at)
	}
}

// OnClockTimer implements flow.ClockTimerHandler.
func (c *clockPatterns[K, T, R]) OnClockTimer(ctx context.Context, key K, at flow.Timestamp, out *flow.Output[R]) error {
	if len(c.p.found) == 0 {
		slot := c.p.keys.Find(key)
		c.p.wm = max(c.p.wm, at)
		for _, l := range c.p.lanes {
			if err := c.p.pause(l, slot, at); err != nil {
				return err
			}
		}
		c.p.later(slot)
		c.wake()
	}
	err := c.p.emit(ctx, out)
	c.p.counted()
	return err
}
