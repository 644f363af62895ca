package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
	"github.com/millrace-stream/millrace/topologies/iot/internal/simulate"
)

func simulateCommand() command {
	return command{
		name:    "simulate",
		summary: "publish a dirty load over MQTT and keep the books of it",
		help: `
Publishes what devices send, with the faults of the field: repeats, rubbish, hours-old readings, broken sensors, clocks that are off,
heartbeats, a few devices that send a hundred times more than the others. All is booked in a ledger file, by the rules of
docs/ledger.md; 'iot check' compares the tables with it. Each message is published until the broker confirms it, also over restarts of
the broker. A signal stops it cleanly: what was published is confirmed and booked.`,
		keys: [][2]string{
			{"readings", "simulate.readings"}, {"rate", "simulate.rate"}, {"duration", "simulate.duration"}, {"devices", "simulate.devices"},
			{"seed", "simulate.seed"}, {"ledger", "simulate.ledger"}, {"broker", "mqtt.broker"}, {"store", "store.dir"},
		},
		run: func(fs *flag.FlagSet) func(context.Context, *call) error {
			status := fs.String("status", "", "`FILE` that says every second how far the run is, as JSON")
			return func(ctx context.Context, c *call) error { return runSimulate(ctx, c, *status) }
		},
	}
}

func runSimulate(ctx context.Context, c *call, status string) error {
	ended := mark{c.cfg.Store.Dir, "simulate"}
	if err := ended.clear(); err != nil {
		return err
	}
	var progress simulate.Progress
	stop := every(ctx, 5*time.Second, func() {
		c.log.Info("publishing", "published", progress.Published.Load(), "confirmed", progress.Acked.Load(), "retries", progress.Retries.Load())
	})
	defer stop()
	report := func() error {
		return writeStatus(status, simulateStatus{progress.Published.Load(), progress.Acked.Load(), progress.Retries.Load(), progress.WarmedUp.Load()})
	}
	reporting := every(ctx, time.Second, func() { warn(c, report()) })
	defer reporting()
	begin := time.Now()
	totals, err := simulate.Run(ctx, simulateOptions(c.cfg, c.log, &progress))
	stop()
	reporting()
	if err != nil {
		return err
	}
	warn(c, report())
	writeTotals(c, totals, time.Since(begin))
	if totals.Unacked > 0 {
		return fmt.Errorf("%d of %d messages were not confirmed by %s: they may have arrived or not", totals.Unacked, totals.Published, c.cfg.MQTT.Broker)
	}
	return ended.set()
}

func writeTotals(c *call, t ledger.Totals, took time.Duration) {
	fmt.Fprintf(c.stdout, "published %d messages in %v (%.0f/s): %d count, %d duplicates, %d heartbeats, %d malformed, %d invalid, %d late, %d with a bad clock; ledger in %s\n",
		t.Published, took.Round(100*time.Millisecond), float64(t.Published)/took.Seconds(), t.Counted, t.Duplicates, t.Heartbeats, t.Malformed, t.Invalid, t.Late, t.BadClock, c.cfg.Simulate.Ledger)
}

// simulateOptions makes the options of a run out of the settings.
func simulateOptions(cfg iot.Config, log *slog.Logger, progress *simulate.Progress) simulate.Options {
	s := cfg.Simulate
	lateFrom := s.LateFrom
	if lateFrom == 0 {
		lateFrom = s.Readings / 10
		if s.Readings == 0 {
			lateFrom = int64(3 * s.Rate)
		}
		lateFrom = max(lateFrom, 1000)
	}
	recent := 16_384
	if s.Rate > 0 {
		recent = min(recent, max(64, int(3*s.Rate))) // no repeat is older than three seconds
	}
	return simulate.Options{
		Load: simulate.Load{
			Seed: s.Seed, Devices: s.Devices, HotEvery: s.HotEvery, Duplicates: s.Duplicates, Malformed: s.Malformed, Late: s.Late,
			Invalid: s.Invalid, Heartbeats: s.Heartbeats, LateFrom: lateFrom, Recent: recent,
		},
		Broker: simulate.Broker{
			URL: cfg.MQTT.Broker, Username: cfg.MQTT.Username, Password: cfg.MQTT.Password.Reveal(),
			ClientID: fmt.Sprintf("iot-simulate-%08x", rand.Uint32()), Connections: s.Connections, InFlight: s.InFlight,
		},
		TopicPrefix: cfg.MQTT.Topic, Readings: s.Readings, Rate: s.Rate, Duration: s.Duration, Settle: s.Settle, Ledger: s.Ledger,
		StopTimeout: 30 * time.Second, Log: log, Progress: progress,
	}
}

// every calls f every d until the returned function is called, which waits for it, or ctx ends.
func every(ctx context.Context, d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				f()
			}
		}
	}()
	return func() { cancel(); <-done }
}
