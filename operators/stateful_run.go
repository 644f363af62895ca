package operators

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// stateful runs the function of a Stateful.
type stateful[K comparable, T, A, R any] struct {
	cells[K, A]
	f       func(ctx context.Context, c *Cell[K, A, R], v T) error
	onTimer timerFunc[K, A, R]
	onClock timerFunc[K, A, R]
	sides   []sideOpener

	clocks flow.Timers[K]
	cell   Cell[K, A, R]
	undo   undo[A]
	own    ownStrings[A]
	done   flow.Timestamp // the watermark whose timers have all fired
	// running is set between begin and end.
	running bool
}

// Open implements flow.Opener.
func (o *stateful[K, T, A, R]) Open(_ context.Context, rt flow.Runtime) error {
	if err := o.open(rt); err != nil {
		return err
	}
	o.done = o.wm
	o.undo = newUndo[A]()
	if o.undo.flat {
		o.own = newOwnStrings[A]()
	}
	o.cell.rt, o.cell.clock = rt, rt.Clock()
	o.cell.mayTime, o.cell.mayAlarm = o.onTimer != nil, o.onClock != nil
	// They are opened in any case, so that OnClockTimer may be added to a Stateful that has state.
	if err := flow.OpenClockTimers(rt, &o.clocks); err != nil {
		return err
	}
	for _, s := range o.sides {
		o.cell.sides = append(o.cell.sides, s.open(rt))
	}
	return nil
}

// Process implements flow.KeyedOperator.
func (o *stateful[K, T, A, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := o.ProcessBatch(ctx, []flow.Slot{o.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessBatch implements flow.KeyedBatchOperator.
func (o *stateful[K, T, A, R]) ProcessBatch(ctx context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[R]) (n int, err error) {
	c := &o.cell
	c.out = out
	defer func() {
		if p := recover(); p != nil {
			if err = panicked(p); o.running {
				err = o.end(err)
			}
		}
		c.out = nil
	}()
	for ; n < len(in); n++ {
		r := &in[n]
		c.time, c.meta, c.floor = r.Time, r.Meta, o.wm
		if err = o.begin(keys[n]); err != nil {
			return n, err
		}
		if err = o.end(o.f(ctx, c, r.Value)); err != nil {
			return n, err
		}
		if o.has(keys[n]) {
			o.touch(keys[n], max(r.Time, o.wm))
		}
	}
	return n, nil
}

// OnWatermark implements flow.WatermarkHandler.
func (o *stateful[K, T, A, R]) OnWatermark(ctx context.Context, wm flow.Timestamp, out *flow.Output[R]) error {
	if wm <= o.done { // announced again behind a restore
		return nil
	}
	o.wm = wm
	for o.timed {
		key, at, ok := o.pop(wm)
		if !ok {
			break
		}
		if err := o.fire(ctx, key, at, out); err != nil {
			o.queue(key) // where the error is transient, this watermark comes again
			return err
		}
	}
	o.done = wm
	return nil
}

func (o *stateful[K, T, A, R]) fire(ctx context.Context, key flow.Slot, at flow.Timestamp, out *flow.Output[R]) error {
	c := &o.cell
	c.time, c.meta, c.floor = at, nil, at
	if err := o.begin(key); err != nil {
		return err
	}
	c.timer = flow.None
	var err error
	if o.onTimer != nil { // else it was set by an earlier version of the program
		err = o.onTimer(ctx, c, at)
	}
	if err = o.end(err); err != nil {
		return err
	}
	o.after(key, at, out)
	return nil
}

// OnClockTimer implements flow.ClockTimerHandler.
func (o *stateful[K, T, A, R]) OnClockTimer(ctx context.Context, k K, at flow.Timestamp, out *flow.Output[R]) error {
	key := o.keys.Find(k)
	if !o.has(key) || !o.timed || o.heads[key].clock != at {
		return nil
	}
	if o.onClock == nil { // it was set by an earlier version of the program
		o.heads[key].clock = flow.None
		o.part.Touch(key.Page())
		o.queue(key)
		return nil
	}
	for try := 0; ; try++ {
		err := o.ring(ctx, key, at, out)
		if err == nil || !flow.IsTransient(err) {
			return err
		}
		// The engine has taken the timer out, so it is tried again here.
		if e := o.cell.clock.Sleep(ctx, min(20*time.Millisecond<<min(try, 8), 5*time.Second)); e != nil {
			return e
		}
	}
}

func (o *stateful[K, T, A, R]) ring(ctx context.Context, key flow.Slot, at flow.Timestamp, out *flow.Output[R]) error {
	c := &o.cell
	c.time, c.meta, c.floor = o.wm.Add(1), nil, o.wm
	if o.wm == flow.None {
		c.time = at
	}
	if err := o.begin(key); err != nil {
		return err
	}
	o.heads[key].clock, c.alarm = flow.None, flow.None
	if err := o.end(o.onClock(ctx, c, at)); err != nil {
		o.heads[key].clock = at
		return err
	}
	o.after(key, o.wm, out)
	return nil
}

// after ends a timer's call that succeeded.
func (o *stateful[K, T, A, R]) after(key flow.Slot, at flow.Timestamp, out *flow.Output[R]) {
	if o.has(key) {
		o.part.Touch(key.Page())
		o.touch(key, at)
	}
	c := &o.cell
	for i := range c.held {
		out.Emit(c.held[i])
	}
	clear(c.held)
	c.held = c.held[:0]
}

// begin sets the cell to a key, remembering how it stands.
func (o *stateful[K, T, A, R]) begin(key flow.Slot) error {
	c := &o.cell
	c.key, c.wm = o.keys.Key(key), o.wm
	c.slot, c.fresh = key, !o.has(key)
	c.State = o.get(key)
	c.timer, c.alarm, c.emitted, c.cleared, c.err = flow.None, flow.None, 0, false, nil
	if c.fresh {
		o.undo.before = *new(A)
	} else {
		if o.timed {
			c.timer, c.alarm = o.heads[key].timer, o.heads[key].clock
		}
		if err := o.undo.save(c.State); err != nil {
			return err
		}
	}
	o.running = true
	return nil
}

// end keeps what the function did, or takes it back.
func (o *stateful[K, T, A, R]) end(err error) error {
	c := &o.cell
	o.running = false
	if err == nil {
		err = c.err
	}
	if err != nil {
		c.takeBack()
		if c.fresh {
			o.drop(c.slot)
		} else if e := o.undo.restore(c.State); e != nil {
			err = errors.Join(err, e)
		}
		return err
	}
	if len(o.own.at) > 0 {
		o.own.cut(c.State, &o.undo.before)
	}
	for _, s := range c.sides {
		s.commit()
	}
	if o.timed {
		o.setTimers(c)
	}
	if c.cleared {
		o.drop(c.slot)
	}
	return nil
}

// setTimers sets the key's timers to what the call left.
func (o *stateful[K, T, A, R]) setTimers(c *Cell[K, A, R]) {
	h := &o.heads[c.slot]
	if h.timer == c.timer && h.clock == c.alarm {
		return
	}
	if h.clock != c.alarm {
		if h.clock != flow.None {
			o.clocks.Clear(c.key, h.clock)
		}
		if c.alarm != flow.None {
			o.clocks.Set(c.key, c.alarm)
		}
	}
	h.timer, h.clock = c.timer, c.alarm
	o.part.Touch(c.slot.Page())
	o.queue(c.slot)
}
