package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/check"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
	"github.com/millrace-stream/millrace/topologies/iot/internal/simulate"
)

func demoCommand() command {
	return command{
		name:    "demo",
		quiet:   true,
		summary: "run everything: simulated devices, the path, ClickHouse, and the check",
		help: `
Starts a real ClickHouse server (downloaded at the first time, about 170 MB), an MQTT broker in the process, and simulated devices that
publish 5,000 readings per second with the faults of the field; runs the whole path in this process; ends after DEMO_SECONDS (60) with a
flush and compares the tables with what was published. With -chain rocketmq (or CHAIN=rocketmq) the path is cut in two, with mosquitto and
RocketMQ as real servers. It uses the database iot_demo and leaves the tables there.`,
		keys: [][2]string{{"rate", "simulate.rate"}, {"devices", "simulate.devices"}, {"seed", "simulate.seed"}},
		run: func(fs *flag.FlagSet) func(context.Context, *call) error {
			seconds := fs.Int("seconds", 0, "how long devices publish; defaults to DEMO_SECONDS, or 60")
			chain := fs.String("chain", "", "rocketmq for the path in two halves; defaults to CHAIN")
			return func(ctx context.Context, c *call) error {
				d := &demo{call: c}
				if err := d.settings(*seconds, *chain); err != nil {
					return err
				}
				return d.run(ctx)
			}
		},
	}
}

// demo is one run of the command.
type demo struct {
	*call
	chain    bool
	progress simulate.Progress
	boxes    []*demoBox
	// broker is the embedded one, nil with real servers.
	broker *mqttbroker.Broker
}

type demoBox struct {
	box
	*process
}

func (d *demo) settings(seconds int, chain string) error {
	env := func(name string) string {
		for _, e := range d.environ {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if seconds == 0 {
		text := cmp.Or(env("DEMO_SECONDS"), "60")
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("DEMO_SECONDS is %q: a whole number of seconds from 1", text)
		}
		seconds = n
	}
	switch chain = cmp.Or(chain, env("CHAIN")); chain {
	case "":
	case "rocketmq":
		d.chain = true
	default:
		return fmt.Errorf("CHAIN is %q: rocketmq, or nothing for one process", chain)
	}
	d.cfg.Simulate.Duration = time.Duration(seconds) * time.Second
	d.cfg.Simulate.Readings = 0
	return nil
}

func (d *demo) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "millrace-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d.cfg.Store.Dir = filepath.Join(dir, "state")
	d.cfg.Simulate.Ledger = filepath.Join(dir, "ledger.jsonl")
	stop, err := d.servers(ctx)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if err := errors.Join(iot.DropTables(ctx, d.cfg.ClickHouse), iot.CreateTables(ctx, d.cfg.ClickHouse)); err != nil {
		return err
	}
	if d.chain {
		if err := simulate.OpenSessions(ctx, d.cfg.MQTT); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, simulate.DropSessions(context.WithoutCancel(ctx), d.cfg.MQTT)) }()
	}
	ch := iot.Connect(d.cfg.ClickHouse)
	defer closing(&err, ch)
	began := time.Now()
	build := []box{allBox()}
	if d.chain {
		build = []box{ingestBox(), dataBox()}
	}
	for _, b := range build {
		opts := []flow.TopologyOption{flow.WithLogger(d.log)}
		if b.stateful {
			opts = append(opts, flow.WithStore(pebble.Dir(d.cfg.Store.Dir)))
		}
		// The boxes are stopped below, in order: the end of ctx ends the simulator only.
		p, err := start(context.WithoutCancel(ctx), b.build(d.cfg, ch, opts...))
		if err != nil {
			return err
		}
		d.boxes = append(d.boxes, &demoBox{b, p})
	}
	if err := d.subscribed(ctx); err != nil {
		return errors.Join(err, d.stopAll())
	}
	totals, err := d.play(ctx)
	if err != nil {
		return err
	}
	if d.broker != nil {
		if lost := d.broker.Dropped(); lost != (mqttbroker.Dropped{}) {
			fmt.Fprintf(d.stdout, "the embedded MQTT broker dropped messages: %+v\n", lost)
		}
	}
	l, err := ledger.Read(d.cfg.Simulate.Ledger)
	if err != nil {
		return err
	}
	report, err := check.Run(context.WithoutCancel(ctx), ch, l)
	if err != nil {
		return err
	}
	return d.result(totals, report, time.Since(began))
}

// play publishes the load and ends the boxes one after the other, each when it has nothing more to do.
func (d *demo) play(ctx context.Context) (totals ledger.Totals, err error) {
	show := newScreen(d.stdout, d.environ)
	stop := every(context.WithoutCancel(ctx), show.interval(), func() { show.update(d.lines()) })
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, b := range d.boxes { // a box that fails ends the demo
		go func() {
			<-b.running.Done()
			cancel()
		}()
	}
	fmt.Fprintf(d.stdout, "%d devices publish %.0f readings per second for %v\n", d.cfg.Simulate.Devices, d.cfg.Simulate.Rate, d.cfg.Simulate.Duration)
	totals, err = simulate.Run(ctx, simulateOptions(d.cfg, d.log, &d.progress))
	for _, b := range d.boxes {
		f := &finisher{running: b.running, source: b.source, behind: b.behind(d.cfg), poll: 200 * time.Millisecond, quiet: 10}
		if err == nil && f.done(context.Background()) {
			err = b.stop(b.stateful)
		} else {
			err = errors.Join(err, b.stop(false))
		}
		err = errors.Join(err, b.wait())
	}
	stop()
	show.update(d.lines())
	return totals, err
}

// subscribed waits until the path is subscribed to the embedded broker, which keeps nothing for those who are not yet there and may lose
// what comes while it hands over a session. It sends heartbeats until one has come through.
func (d *demo) subscribed(ctx context.Context) error {
	if d.broker == nil {
		return nil // a real broker keeps what comes for a session
	}
	first := d.boxes[0]
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for counter(first.running, first.source, "out") == 0 {
		if err := d.broker.Publish(d.cfg.MQTT.Topic+"/demo", []byte(`{"deviceId":"demo","kind":"heartbeat"}`), false, 1); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-first.running.Done():
			return first.running.Err()
		}
	}
	return nil
}

// stopAll stops the boxes where they are.
func (d *demo) stopAll() error {
	var errs []error
	for _, b := range d.boxes {
		errs = append(errs, b.stop(false), b.wait())
	}
	return errors.Join(errs...)
}

// servers starts what the demo needs and returns what stops it.
func (d *demo) servers(ctx context.Context) (stop func() error, err error) {
	stop = func() error { return nil }
	set, err := services.Open(services.Options{Logf: func(format string, args ...any) { fmt.Fprintf(d.stdout, format+"\n", args...) }})
	if err != nil {
		return stop, err
	}
	names := []string{services.ClickHouse}
	if d.chain {
		names = append(names, services.Mosquitto, services.RocketNameSrv, services.RocketBroker)
	}
	var ours []string // servers that run already stay up
	for _, s := range set.Status() {
		if slices.Contains(names, s.Name) && !s.Ready {
			ours = append(ours, s.Name)
		}
	}
	fmt.Fprintf(d.stdout, "servers: %s\n", strings.Join(names, ", "))
	if err := set.Up(ctx, names...); err != nil {
		return stop, err
	}
	stop = func() error {
		if len(ours) == 0 {
			return nil
		}
		return set.Down(context.Background(), ours...)
	}
	id := fmt.Sprintf("demo-%d", os.Getpid())
	d.cfg.ClickHouse.Addr, d.cfg.ClickHouse.Protocol, d.cfg.ClickHouse.Database = []string{set.ClickHouseNative()}, "native", "iot_demo"
	d.cfg.MQTT.ClientID, d.cfg.MQTT.Topic, d.cfg.MQTT.Group = id, id, id
	if d.chain {
		d.cfg.MQTT.Broker = "tcp://" + set.MQTT()
		d.cfg.RocketMQ.NameServers, d.cfg.RocketMQ.Topic, d.cfg.RocketMQ.Group = []string{set.NameServer()}, id, id
		return stop, set.CreateTopic(ctx, id, 4)
	}
	broker, err := mqttbroker.Start(context.WithoutCancel(ctx), "127.0.0.1:0", mqttbroker.Options{})
	if err != nil {
		return stop, err
	}
	d.broker = broker
	down := stop
	stop = func() error { return errors.Join(broker.Close(), down()) }
	d.cfg.MQTT.Broker = broker.URL()
	return stop, nil
}

// lines are what the screen shows while the demo runs.
func (d *demo) lines() []string {
	first, last := d.boxes[0], d.boxes[len(d.boxes)-1]
	n := func(node string) int64 { return counter(last.running, node, "in") }
	lines := []string{
		fmt.Sprintf("published  %9d   confirmed %9d", d.progress.Published.Load(), d.progress.Acked.Load()),
		fmt.Sprintf("read       %9d   not yet durable %d", counter(first.running, first.source, "out"), first.running.Unacked()),
	}
	if d.chain {
		lines = append(lines, fmt.Sprintf("rocketmq   %9d   lag %d", counter(last.running, last.source, "out"), last.running.Lag()))
	}
	return append(lines,
		fmt.Sprintf("duplicates %9d   invalid %d   late %d   bad clock %d", dropped(last.running), n("invalid"), n("late"), n("bad-clock")),
		fmt.Sprintf("rows       %9d", n("device-minute")))
}

// result prints the table.
func (d *demo) result(t ledger.Totals, report ledger.Report, took time.Duration) error {
	last := d.boxes[len(d.boxes)-1].running
	parts := map[string]ledger.Part{}
	for _, p := range report.Parts {
		parts[p.Name] = p
	}
	fmt.Fprintf(d.stdout, "\n%-22s %10s %10s\n", "", "published", "found")
	row := func(name string, published, found int64) {
		fmt.Fprintf(d.stdout, "%-22s %10d %10d\n", name, published, found)
	}
	set := func(name, part string) { row(name, int64(parts[part].Expected), int64(parts[part].Found)) }
	fmt.Fprintf(d.stdout, "%-22s %10d\n", "messages", t.Published)
	fmt.Fprintf(d.stdout, "%-22s %10d\n", "heartbeats", t.Heartbeats)
	row("duplicates dropped", t.Duplicates, dropped(last))
	set("malformed, distinct", "dead letters")
	set("invalid", "invalid")
	set("late", "late")
	set("bad clock", "bad clock")
	fmt.Fprintf(d.stdout, "%-22s %10s %10d\n", "windows", "", counter(last, "per-minute/window", "out"))
	set("rows", "minute rows")
	fmt.Fprintf(d.stdout, "in %v\n\n", took.Round(time.Second))
	if err := report.Write(d.stdout); err != nil {
		return err
	}
	if !report.Exact() {
		return errDiffers
	}
	return nil
}
