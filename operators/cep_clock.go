package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// clockPatterns takes events as they come, at the time of the clock.
type clockPatterns[K comparable, T, R any] struct {
	*patterns[K, T, R]
	clock  flow.Clock
	alarms flow.Timers[K]
	// again: the record's match has failed for now, and the engine tries the record again.
	again bool
}

// Open implements flow.Opener.
func (c *clockPatterns[K, T, R]) Open(_ context.Context, rt flow.Runtime) error {
	c.rt, c.almost, c.clock = rt, c.timedOut.Open(rt), rt.Clock()
	c.late.open(rt)
	if err := flow.OpenKeys(rt, &c.keys); err != nil {
		return err
	}
	if err := flow.OpenClockTimers(rt, &c.alarms); err != nil {
		return err
	}
	return c.open()
}

// Process implements flow.KeyedOperator.
func (c *clockPatterns[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	if !c.again {
		slot := c.keys.Find(key)
		c.wm = max(c.wm, flow.TimestampOf(c.clock.Now()))
		for _, l := range c.lanes {
			if err := c.process(l, slot, c.wm, &r.Value); err != nil {
				return err
			}
		}
		c.wake()
		c.counted()
	}
	c.again = false
	err := c.emit(ctx, out)
	switch {
	case flow.IsTransient(err):
		c.again = true
	case err != nil:
		clear(c.found)
		c.found = c.found[:0]
	}
	return err
}

// wake sets alarms for the next moments of keys.
func (c *clockPatterns[K, T, R]) wake() {
	for e, ok := c.due.pop(flow.EndOfTime); ok; e, ok = c.due.pop(flow.EndOfTime) {
		c.alarms.Set(c.keys.Key(e.key), e.at)
	}
}

// OnClockTimer implements flow.ClockTimerHandler.
func (c *clockPatterns[K, T, R]) OnClockTimer(ctx context.Context, key K, at flow.Timestamp, out *flow.Output[R]) error {
	if len(c.found) == 0 {
		slot := c.keys.Find(key)
		c.wm = max(c.wm, at)
		for _, l := range c.lanes {
			if err := c.pause(l, slot, at); err != nil {
				return err
			}
		}
		c.later(slot)
		c.wake()
		c.counted()
	}
	return c.emit(ctx, out)
}
