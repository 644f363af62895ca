package flowtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// scriptInput is an input without its type.
type scriptInput interface {
	Waiter
	partitions() []string
	feed(partition string, at flow.Timestamp, text string) error
	watermark(partition string, at flow.Timestamp) error
	// idle lets the partition say that there is nothing, and waits until it has.
	idle(ctx context.Context, partition string) error
}

// inputOf returns the script's input of a name, making it at the first start.
func inputOf[I scriptInput](s *Script, name string, make func(partitions []string) I) I {
	s.once("input", name)
	if was, ok := s.inputs[name]; ok {
		if in, ok := was.(I); ok {
			return in
		}
		s.fail(fmt.Errorf("%s: setup changes the type of input %q from start to start; build the same each time", s.file.path, name))
	}
	in := make(s.file.partitions(name))
	if s.inputs[name] == nil {
		s.order = append(s.order, name)
	}
	s.inputs[name] = in
	return in
}

// scriptSource is a Source that tells when the engine has heard that a partition is idle.
type scriptSource[T any] struct {
	*Source[T]
	mu      sync.Mutex
	said    map[string]bool
	changed chan struct{}
}

func newScriptSource[T any](partitions []string) *scriptSource[T] {
	return &scriptSource[T]{Source: NewSource[T](partitions...), said: map[string]bool{}, changed: make(chan struct{})}
}

// Read implements flow.Source.
func (s *scriptSource[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	return s.Source.Read(ctx, p, from, flow.NewIntake[T](heard[T]{in, func() { s.say(p.ID, true) }}))
}

func (s *scriptSource[T]) say(partition string, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said[partition] = idle
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *scriptSource[T]) partitions() []string { return s.order }

func (s *scriptSource[T]) idle(ctx context.Context, partition string) error {
	s.say(partition, false)
	s.Idle(partition)
	for {
		s.mu.Lock()
		said, changed := s.said[partition], s.changed
		s.mu.Unlock()
		if said {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("the source is not read")
		}
	}
}

type heard[T any] struct {
	*flow.Intake[T]
	idle func()
}

func (h heard[T]) Idle() {
	h.Intake.Idle()
	h.idle()
}

// plainInput is an input without event time.
type plainInput[T any] struct {
	src   *scriptSource[T]
	parse func(string) (T, error)
}

func (p *plainInput[T]) wait(ctx context.Context) error { return p.src.wait(ctx) }
func (p *plainInput[T]) partitions() []string           { return p.src.partitions() }

func (p *plainInput[T]) idle(ctx context.Context, partition string) error {
	return p.src.idle(ctx, partition)
}

func (p *plainInput[T]) feed(partition string, at flow.Timestamp, text string) error {
	v, err := p.parse(text)
	if err != nil {
		return err
	}
	if at == 0 {
		at = 1 // the engine takes a reference of 0 for none
	}
	p.src.FeedRecords(partition, flow.Record[T]{Value: v, Time: at})
	return nil
}

func (p *plainInput[T]) watermark(string, flow.Timestamp) error {
	return errors.New("the input is a ScriptSource, whose watermarks come from its records by the AssignTime behind it; " +
		"send records, or take a ScriptInput")
}

// scripted is a record of a timed input, or a watermark.
type scripted[T any] struct {
	Value T
	At    flow.Timestamp
	Mark  bool
}

// timedInput has the times and watermarks that the script says.
type timedInput[T any] struct {
	src   *scriptSource[scripted[T]]
	parse func(string) (T, error)
}

func (i *timedInput[T]) wait(ctx context.Context) error { return i.src.wait(ctx) }
func (i *timedInput[T]) partitions() []string           { return i.src.partitions() }

func (i *timedInput[T]) idle(ctx context.Context, partition string) error {
	return i.src.idle(ctx, partition)
}

// beforeAll is a reference time that keeps a record from raising the watermark: it counts at most as its reference.
const beforeAll = flow.None + 2

func (i *timedInput[T]) feed(partition string, at flow.Timestamp, text string) error {
	if at == flow.None {
		return errors.New("a record without a time has no place in a ScriptInput; take a ScriptSource, and an AssignTime behind it")
	}
	v, err := i.parse(text)
	if err != nil {
		return err
	}
	i.src.FeedRecords(partition, flow.Record[scripted[T]]{Value: scripted[T]{Value: v, At: at}, Time: beforeAll})
	return nil
}

// watermark sends a record without a reference time one tick behind it, which raises a monotonous watermark to it, and is then left out.
func (i *timedInput[T]) watermark(partition string, at flow.Timestamp) error {
	i.src.FeedRecords(partition, flow.Record[scripted[T]]{Value: scripted[T]{At: at + 1, Mark: true}, Time: flow.None})
	return nil
}

func (i *timedInput[T]) stream(t *flow.Topology, name string) flow.Stream[T] {
	wm := watermark.Monotonous().Every(0).MaxFutureSkew(watermark.Off)
	timed := flow.AssignTime(flow.From(t, name+"-input", i.src), name+"-time", func(s scripted[T]) time.Time { return s.At.Time() }, wm)
	return flow.Apply[scripted[T], T](timed, name+"-values", func() flow.OperatorFunc[scripted[T], T] {
		return func(_ context.Context, r *flow.Record[scripted[T]], out *flow.Output[T]) error {
			if !r.Value.Mark {
				*out.Next(r.Time, r.Meta) = r.Value.Value
			}
			return nil
		}
	})
}

// place finds the input and the partitions that a line speaks to.
func (s *Script) place(c *command) (in scriptInput, partitions []string, err error) {
	in, ok := s.inputs[c.input]
	switch {
	case c.input == "" && len(s.order) == 1:
		in = s.inputs[s.order[0]]
	case c.input == "":
		return nil, nil, s.file.errorf(c.line, "the line does not say which input it speaks to", "write one of "+strings.Join(s.order, ", ")+" behind "+c.word)
	case !ok:
		return nil, nil, s.file.errorf(c.line, fmt.Sprintf("there is no input %q", c.input), "the inputs of setup are "+strings.Join(s.order, ", "))
	}
	all := in.partitions()
	switch {
	case c.partition == "":
		return in, all, nil
	case !slices.Contains(all, c.partition):
		return nil, nil, s.file.errorf(c.line, fmt.Sprintf("input %q has no partition %q", c.input, c.partition), "its partitions are "+strings.Join(all, ", "))
	}
	return in, []string{c.partition}, nil
}
