package main

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/topologies/iot"
)

const finishHelp = `
A signal stops it in order: what was read is processed, committed and confirmed; open windows stay in the state and go on with the next
start. A second signal ends the process at once, which loses nothing either.`

func allCommand() command {
	return command{
		name:    "all",
		summary: "run the whole path in one process: MQTT -> windows -> ClickHouse",
		help:    finishHelp + "\n\nWith -finish it ends by itself, with a flush of all windows, once 'iot simulate' has ended and all is read.",
		keys:    runKeys(),
		run:     runner(allBox()),
	}
}

func ingestCommand() command {
	return command{
		name:    "ingest",
		summary: "run the first half: MQTT -> RocketMQ",
		help:    finishHelp + "\n\nWith -finish it ends by itself once 'iot simulate' has ended and all is read.",
		keys:    runKeys(),
		run:     runner(ingestBox()),
	}
}

func dataCommand() command {
	return command{
		name:    "data",
		summary: "run the second half: RocketMQ -> windows -> ClickHouse",
		help: finishHelp + `

With -finish it ends by itself, with a flush of all windows, once 'iot ingest' has ended and the topic is read to its end. The processes
know of each other's end by files in store.dir, so they must share it; -finish-now does not wait for such a file.`,
		keys: runKeys(),
		run:  runner(dataBox()),
	}
}

func runKeys() [][2]string {
	return [][2]string{{"broker", "mqtt.broker"}, {"database", "clickhouse.database"}, {"store", "store.dir"}}
}

func runner(b box) func(fs *flag.FlagSet) func(context.Context, *call) error {
	return func(fs *flag.FlagSet) func(context.Context, *call) error {
		finish := fs.Bool("finish", false, "end when "+b.after+" has ended and all is read")
		now := fs.Bool("finish-now", false, "like -finish, for when "+b.after+" has ended already")
		file := fs.String("status", "", "`FILE` that says every second how far the run is, as JSON")
		return func(ctx context.Context, c *call) error {
			r := boxRun{box: b, call: c, finish: *finish, now: *now, status: *file}
			return r.do(ctx)
		}
	}
}

// boxRun is one run of a box.
type boxRun struct {
	box
	*call
	// finish and now: end when there is nothing more to do.
	finish, now bool
	// status is a file to keep up to date.
	status string
}

func (r boxRun) do(ctx context.Context) (err error) {
	b, c := r.box, r.call
	if err := createTables(ctx, c); err != nil {
		return err
	}
	ch := iot.Connect(c.cfg.ClickHouse)
	defer closing(&err, ch)
	ended := mark{c.cfg.Store.Dir, b.name}
	if err := ended.clear(); err != nil {
		return err
	}
	opts := []flow.TopologyOption{flow.WithLogger(c.log)}
	if b.stateful {
		opts = append(opts, flow.WithStore(pebble.Dir(c.cfg.Store.Dir)))
	}
	p, err := start(ctx, b.build(c.cfg, ch, opts...))
	if err != nil {
		return err
	}
	defer every(ctx, 5*time.Second, func() { c.log.Info("running", p.figures(b)...) })()
	report := func() error { return writeStatus(r.status, statusOf(b, p.running)) }
	defer every(ctx, time.Second, func() { warn(c, report()) })()
	if r.finish || r.now {
		wait := &finisher{running: p.running, source: b.source, behind: b.behind(c.cfg), poll: time.Second, quiet: 5}
		if !r.now {
			wait.after = mark{c.cfg.Store.Dir, b.after}
		}
		if wait.done(ctx) {
			err = p.stop(b.stateful)
		}
	}
	if err := errors.Join(err, p.wait()); err != nil {
		return err
	}
	c.log.Info("ended", p.figures(b)...)
	return errors.Join(report(), ended.set())
}

// process is a running topology with the router that it runs on.
type process struct {
	running *flow.Running
	router  *message.Router
	routed  chan error
}

// start starts a topology on a router of its own. It stops when ctx ends.
func start(ctx context.Context, t *flow.Topology) (*process, error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	running, err := t.AddTo(ctx, router)
	if err != nil {
		return nil, err
	}
	p := &process{running: running, router: router, routed: make(chan error, 1)}
	go func() { p.routed <- router.Run(context.WithoutCancel(ctx)) }()
	return p, nil
}

// stop stops the topology; with flush it is the end of its stream.
func (p *process) stop(flush bool) error {
	var opts []flow.StopOption
	if flush {
		opts = append(opts, flow.Flush())
	}
	return p.running.Stop(context.Background(), opts...)
}

// wait waits for the topology's end and returns why it ended, nil when it was stopped.
func (p *process) wait() error {
	select {
	case <-p.running.Done():
	case err := <-p.routed:
		<-p.running.Done()
		return errors.Join(p.running.Err(), err)
	}
	<-p.router.Running()
	return errors.Join(p.running.Err(), p.router.Close(), <-p.routed)
}

// counter returns one counter of a node.
func counter(r *flow.Running, node, name string) int64 {
	for _, c := range r.Counters() {
		if c.Node == node && c.Name == name {
			return c.Value
		}
	}
	return 0
}

// figures are what a log line says about the run.
func (p *process) figures(b box) []any {
	var retries, letters int64
	for _, c := range p.running.Counters() {
		switch c.Name {
		case "retries":
			retries += c.Value
		case "dead_letters":
			letters += c.Value
		}
	}
	f := []any{"read", counter(p.running, b.source, "out"), "unacked", p.running.Unacked(), "lag", p.running.Lag(), "dead_letters", letters, "retries", retries}
	if b.stateful {
		f = append(f, "duplicates", dropped(p.running), "rows", counter(p.running, "device-minute", "in"), "late", counter(p.running, "late", "in"))
	}
	return f
}

// dropped is how many duplicates the run has dropped.
func dropped(r *flow.Running) int64 {
	return counter(r, "per-minute/dedup", "in") - counter(r, "per-minute/dedup", "out")
}
