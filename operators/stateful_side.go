package operators

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
)

// EmitsTo lets the functions of a Stateful emit to a side output, by EmitTo. Make the output by flow.SideOutput, with the Stateful's name,
// before the Stateful. It may be given several times.
func EmitsTo[S any](side *flow.Side[S]) flow.Option {
	return flow.SetOption(func(c *statefulConfig) {
		c.sides = append(c.sides, sideOf[S]{side})
		if side == nil {
			c.Problem("the side output is nil", "make it by flow.SideOutput")
		}
	})
}

// EmitTo adds a value to a side output, with the cell's Time and Meta. Like all else it is taken back where the function fails.
func EmitTo[K comparable, A, R, S any](c *Cell[K, A, R], side *flow.Side[S], v S) {
	for _, b := range c.sides {
		if b, ok := b.(*sideHeld[S]); ok && b.side == side {
			b.held = append(b.held, flow.Record[S]{Value: v, Time: c.time, Meta: c.meta})
			return
		}
	}
	c.fail(fmt.Errorf("EmitTo a side output of %T that the Stateful was not told of: give it operators.EmitsTo", v))
}

type sideOpener interface {
	open(rt flow.Runtime) sideBuffer
}

type sideOf[S any] struct{ side *flow.Side[S] }

func (s sideOf[S]) open(rt flow.Runtime) sideBuffer {
	return &sideHeld[S]{side: s.side, out: s.side.Open(rt)}
}

// sideBuffer holds back what a call emits to a side output until it has succeeded.
type sideBuffer interface {
	commit()
	drop()
}

type sideHeld[S any] struct {
	side *flow.Side[S]
	out  *flow.Output[S]
	held []flow.Record[S]
}

func (s *sideHeld[S]) commit() {
	for i := range s.held {
		s.out.Emit(s.held[i])
	}
	s.drop()
}

func (s *sideHeld[S]) drop() {
	clear(s.held)
	s.held = s.held[:0]
}
