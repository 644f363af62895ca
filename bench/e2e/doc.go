// Package e2e measures whole paths with real servers on the machine: from a broker into rows of ClickHouse. Each path has a bare loop over
// the same client beside it, which reads the same and does nothing with it: what broker and client can do. Paths and bare loops take turns
// in one session (Pair), so that their ratio holds on a machine on which figures do not. No run counts before every record was found
// in ClickHouse, once.
//
// Beside it stand the cost of durable state and the time of recovery after a SIGKILL (durability.go, recovery.go).
package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// Servers are the addresses of what is measured with, host:port.
type Servers struct {
	MQTT string
	// MQTTWindow is how many messages the broker leaves unacked per client.
	MQTTWindow int
	NameServer string
	Broker     string
	Kafka      string
	// ClickHouse is its native port.
	ClickHouse string
}

// Of are the servers of a set.
func Of(s *services.Set) Servers {
	return Servers{MQTT: s.MQTT(), MQTTWindow: 2000, NameServer: s.NameServer(), Broker: s.Broker(), Kafka: s.Kafka(), ClickHouse: s.ClickHouseNative()}
}

// Bench is a scenario with a part before and a part behind that are not measured.
type Bench interface {
	harness.Scenario
	// Prepare makes what a run needs: tables, and what is read where that lies ready.
	Prepare(ctx context.Context, set harness.Settings) error
	// Check tells whether every record of the run has come out once.
	Check(ctx context.Context) error
	// Drop drops what the run has made, whatever became of it.
	Drop(ctx context.Context) error
	// Close drops what was made for all runs.
	Close(ctx context.Context) error
}

// patience is how long nothing may come before a run is given up.
const patience = time.Minute

// name makes a name that nobody else uses.
func name(of string) string { return "e2e_" + of + "_" + strings.ToLower(rand.Text()[:10]) }

// running is a topology that runs.
type running struct {
	*flow.Running
	done chan error
}

// start starts a topology and returns when it reads.
func start(ctx context.Context, t *flow.Topology) (*running, error) {
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	run, err := t.AddTo(ctx, router)
	if err != nil {
		return nil, err
	}
	r := &running{run, make(chan error, 1)}
	go func() { r.done <- router.Run(context.WithoutCancel(ctx)) }()
	if err := run.Ready(ctx); err != nil {
		return nil, errors.Join(err, r.stop(ctx))
	}
	return r, nil
}

// stop ends it in order.
func (r *running) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(r.Stop(ctx), <-r.done)
}

// quiet is a logger for topologies: what they warn of goes to slog's default.
func quiet() flow.TopologyOption {
	return flow.WithLogger(slog.New(warnings{slog.Default().Handler()}))
}

type warnings struct{ slog.Handler }

func (w warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// progress is what has come out so far.
type progress struct{ changed chan struct{} }

func newProgress() progress { return progress{make(chan struct{}, 1)} }

func (p progress) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// until waits until all is true. It looks whenever something has changed, and gives up when the topology ends or nothing comes for long.
func (p progress) until(ctx context.Context, r *running, what func() string, all func() bool) error {
	var ended <-chan struct{}
	if r != nil {
		ended = r.Running.Done()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !all() {
		select {
		case <-p.changed:
			timer.Reset(patience)
		case <-timer.C:
			return fmt.Errorf("nothing has come for %v: %s", patience, what())
		case <-ended:
			return fmt.Errorf("the topology has ended: %w: %s", r.Err(), what())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// number asks ClickHouse for numbers, one row of them.
func numbers(ctx context.Context, ch *clickhouse.Conn, sql string, to ...any) error {
	return ch.Query(ctx, sql, func(rows driver.Rows) error { return rows.Scan(to...) })
}
