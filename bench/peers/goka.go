package peers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"

	"github.com/millrace-stream/millrace/bench/workload"
)

const gokaEvents goka.Stream = "events"

// gokaA has no operators but a callback, which adds up what it keeps.
func gokaA(ctx context.Context, in *input, r *workload.Result) error {
	return runGoka(ctx, in, goka.DefineGroup("stateless", goka.Input(gokaEvents, gokaEventCodec(), func(_ goka.Context, msg any) {
		e := msg.(*event)
		e.Temperature = e.Temperature*1.8 + 32
		if e.Humidity >= 50 {
			return
		}
		e.Humidity = e.Temperature*0.5 + e.Humidity*0.1
		r.Out++
		r.Sum += e.Humidity
	})), nil)
}

// gokaB keeps each device's minute in the group's table. The library has no windows and no timers: a minute ends with the device's first event
// of another, and the last ones are read out of the table at the end.
func gokaB(ctx context.Context, in *input, r *workload.Result) error {
	const group goka.Group = "per-minute"
	graph := goka.DefineGroup(group, goka.Persist(gokaMinuteCodec()), goka.Input(gokaEvents, gokaEventCodec(), func(c goka.Context, msg any) {
		e := msg.(*event)
		m, ok := c.Value().(*minute)
		if !ok {
			m = &minute{}
		}
		if done, ok := m.add(e.TS, e.Temperature); ok {
			done.into(r)
		}
		c.SetValue(m)
	}))
	return runGoka(ctx, in, graph, func(t *tester.Tester) {
		for _, device := range in.events.Devices() {
			if m, ok := t.TableValue(goka.GroupTable(group), device).(*minute); ok {
				m.into(r)
			}
		}
	})
}

// runGoka runs a processor on the library's test kit, which stands for Kafka: it takes a thousand events at a time and waits until they are processed.
func runGoka(ctx context.Context, in *input, graph *goka.GroupGraph, end func(*tester.Tester)) error {
	t := tester.New(gokaFailure{})
	quiet := log.New(io.Discard, "", 0)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(t), goka.WithLogger(quiet))
	if err != nil {
		return err
	}
	emitter, err := goka.NewEmitter(nil, gokaEvents, gokaEventCodec(), goka.WithEmitterProducerBuilder(t.ProducerBuilder()),
		goka.WithEmitterTopicManagerBuilder(t.TopicManagerBuilder()), goka.WithEmitterLogger(quiet))
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(running) }()
	for b := in.batch(ctx); len(b) > 0 && err == nil; b = in.batch(ctx) {
		for i := range b {
			if _, err = emitter.Emit(b[i].Device, &b[i]); err != nil {
				break
			}
		}
		t.Catchup()
	}
	if err == nil && end != nil {
		end(t)
	}
	stop()
	return errors.Join(err, emitter.Finish(), <-ended)
}

// gokaFailure is what the test kit complains to.
type gokaFailure struct{}

func (gokaFailure) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (gokaFailure) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (gokaFailure) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

// gokaCodec makes a codec of two functions.
type gokaCodec[T any] struct {
	encode func(*T) []byte
	decode func([]byte) (T, error)
}

func (c gokaCodec[T]) Encode(v any) ([]byte, error) { return c.encode(v.(*T)), nil }
func (c gokaCodec[T]) Decode(b []byte) (any, error) {
	v, err := c.decode(b)
	return &v, err
}

func gokaEventCodec() goka.Codec  { return gokaCodec[event]{encodeEvent, decodeEvent} }
func gokaMinuteCodec() goka.Codec { return gokaCodec[minute]{encodeMinute, decodeMinute} }

func encodeMinute(m *minute) []byte {
	b := make([]byte, 0, 40)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.number))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.sum))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.max))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m.min))
	return binary.LittleEndian.AppendUint64(b, uint64(m.n))
}

func decodeMinute(b []byte) (m minute, err error) {
	if len(b) != 40 {
		return m, errors.New("the entry is no minute: it has another length")
	}
	m.number = int64(binary.LittleEndian.Uint64(b))
	m.sum = math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))
	m.max = math.Float64frombits(binary.LittleEndian.Uint64(b[16:]))
	m.min = math.Float64frombits(binary.LittleEndian.Uint64(b[24:]))
	m.n = int64(binary.LittleEndian.Uint64(b[32:]))
	return m, nil
}
