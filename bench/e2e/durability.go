package e2e

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// Durability is the main job in process, between a source and sinks in memory, so that nothing but the state differs: kept in memory, in files
// with an epoch a second, and in files with ten.
func Durability() []Bench {
	return []Bench{
		&mainJob{what: "off", about: "state in memory", every: time.Second},
		&mainJob{what: "1s", about: "state in files, epochs of 1 s", every: time.Second, durable: true},
		&mainJob{what: "100ms", about: "state in files, epochs of 100 ms", every: 100 * time.Millisecond, durable: true},
	}
}

type mainJob struct {
	what, about string
	every       time.Duration
	durable     bool

	devices, sites []string
	dir            string
}

func (j *mainJob) Name() string { return "durability/" + j.what }
func (j *mainJob) About() string {
	return "the main job (dedup, minutes; 10,000 devices) in process, " + j.about
}

func (j *mainJob) Prepare(context.Context, harness.Settings) (err error) {
	if j.devices == nil {
		j.devices = workload.New(workload.B10k()).Devices()
		j.sites = make([]string, len(j.devices))
		for i, d := range j.devices {
			n, err := strconv.Atoi(strings.TrimPrefix(d, "dev-"))
			if err != nil {
				return err
			}
			j.sites[i] = iot.SiteName(n)
		}
	}
	if j.durable {
		j.dir, err = os.MkdirTemp("", "e2e-")
	}
	return err
}

func (j *mainJob) Run(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	m.EachOnce()
	store := state.InMemory()
	if j.durable {
		store = pebble.Dir(j.dir)
	}
	base := time.Now().Add(-48 * time.Hour).Truncate(time.Minute).UnixMilli()
	t := flow.New("durability", quiet(), flow.WithStore(store), flow.WithHooks(m), flow.WithEpochInterval(j.every), flow.WithMaxPending(maxPending))
	raw := flow.From(t, "readings", harness.From(l, func(i int64, r *iot.Reading) {
		z := uint64(i+1) * 0x9E3779B97F4A7C15
		d := (z >> 32) * uint64(len(j.devices)) >> 32
		*r = iot.Reading{
			DeviceID: j.devices[d], Site: j.sites[d], Kind: iot.KindReading, TS: base + i*1000/readingsRate, Seq: i,
			Temperature: float64(z&0xFFFF) * (80.0 / 65536), Humidity: float64(z>>16&0xFFFF) * (100.0 / 65536),
		}
	}))
	cfg := iot.DefaultConfig()
	clean := iot.Clean(iot.Accepted(raw, "accepted"), "clean", iot.Sites(), cfg.Time)
	fresh := iot.Fresh(clean, "per-minute/dedup", cfg.Dedup)
	flow.To(fresh.Unkeyed(), "readings-out", harness.To(m, func(p iot.Placed) int64 { return p.Seq }))
	flow.To(clean.Invalid(), "invalid-out", nothing[iot.Reading]{})
	flow.To(iot.PerMinute(fresh, "per-minute/window", cfg.Time), "minutes-out", nothing[window.Result[string, iot.Minute]]{})
	return t.Run(ctx)
}

func (j *mainJob) Check(context.Context) error { return nil }
func (j *mainJob) Drop(context.Context) error  { return os.RemoveAll(j.dir) }
func (j *mainJob) Close(context.Context) error { return nil }

// nothing is a sink that keeps nothing.
type nothing[T any] struct{}

func (nothing[T]) Open(context.Context, flow.SinkRuntime) error                        { return nil }
func (n nothing[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) { return n, nil }
func (nothing[T]) Write(context.Context, []flow.Record[T]) error                       { return nil }
func (nothing[T]) Seal(context.Context) ([]flow.Block, error)                          { return nil, nil }
func (nothing[T]) Deliver(context.Context, []flow.Block) ([]flow.Reject, error)        { return nil, nil }
func (nothing[T]) DecodeBlock([]byte) (flow.Block, error)                              { return nil, errors.New("no blocks") }
func (nothing[T]) Close(context.Context) error                                         { return nil }

// Turns measures benches one after the other, and again, so that all see the same machine.
func Turns(ctx context.Context, bs []Bench, set harness.Settings, progress func(string)) ([]harness.Result, error) {
	all := make([]harness.Result, len(bs))
	turns := max(set.Runs, 1)
	set.Runs = 1
	for range turns {
		for i, b := range bs {
			one, err := measureOnce(ctx, b, set, nil)
			if err != nil {
				return nil, err
			}
			add(&all[i], one)
			if progress != nil {
				progress(line(b, one.Runs[0]))
			}
		}
	}
	return all, nil
}
