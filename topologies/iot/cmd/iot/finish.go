package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttconn"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// mark is a file by which one process of the path tells the next that it has ended.
type mark struct{ dir, name string }

func (m mark) path() string { return filepath.Join(m.dir, m.name+".ended") }

// clear says that the process runs.
func (m mark) clear() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("store.dir: %w", err)
	}
	if err := os.Remove(m.path()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("store.dir: %w", err)
	}
	return nil
}

// set says that the process has ended, with all its work done.
func (m mark) set() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("store.dir: %w", err)
	}
	return os.WriteFile(m.path(), []byte(time.Now().UTC().Format(time.RFC3339Nano)+"\n"), 0o644)
}

func (m mark) isSet() bool {
	_, err := os.Stat(m.path())
	return err == nil
}

// finisher finds out when a box has nothing more to do.
type finisher struct {
	running *flow.Running
	source  string
	// after is the end that has to come first; the zero mark is there already.
	after mark
	// behind asks the broker how many messages it has that are not confirmed. An error means that it cannot be asked, so that nobody
	// knows; nil means not to ask.
	behind func(context.Context) (int64, error)
	// poll is how often it looks, quiet how many times in a row there must be nothing: a source that connects anew says nothing for a
	// moment either.
	poll  time.Duration
	quiet int
}

// doubtful is how many times longer everything must be quiet when the broker says that something is not confirmed and the source that
// all is read: a broker that was killed forgets the last confirmations.
const doubtful = 6

// done waits until everything is read and durable and the box before has ended. It returns false when the topology or ctx ended first.
func (f *finisher) done(ctx context.Context) bool {
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	last, quiet := int64(-1), 0
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.running.Done():
			return false
		case <-tick.C:
		}
		read := counter(f.running, f.source, "out")
		enough := f.quiet
		switch behind, err := f.ask(ctx); {
		case err != nil, f.after != mark{} && !f.after.isSet(), read != last, f.running.Lag() > 0, f.running.Unacked() > 0:
			last, quiet = read, 0
			continue
		case behind > 0:
			enough *= doubtful
		}
		if quiet++; quiet >= enough {
			return true
		}
	}
}

func (f *finisher) ask(ctx context.Context) (int64, error) {
	if f.behind == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return f.behind(ctx)
}

// mqttBehind only finds out whether the broker can be reached: MQTT has no way to ask how many messages wait.
func mqttBehind(cfg iot.MQTTConfig) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		b, err := mqttconn.ParseBroker(cfg.Broker)
		if err != nil {
			return 0, err
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", b.URL.Host)
		if err != nil {
			return 0, err
		}
		return 0, conn.Close()
	}
}

// rocketmqBehind asks how far the group is behind the end of the topic.
func rocketmqBehind(cfg iot.RocketMQConfig) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		client, err := rocketmq.NewClient(cfg.Connection())
		if err != nil {
			return 0, err
		}
		defer client.Close()
		route, err := client.Route(ctx, cfg.Topic)
		if err != nil {
			return 0, err
		}
		var behind int64
		for _, q := range route.Readable {
			addr, ok := route.Masters[q.Broker]
			if !ok {
				return 0, fmt.Errorf("broker %s is down", q.Broker)
			}
			end, err := client.MaxOffset(ctx, addr, cfg.Topic, q)
			if err != nil {
				return 0, err
			}
			at, _, err := client.Committed(ctx, addr, cfg.Group, cfg.Topic, q)
			if err != nil {
				return 0, err
			}
			behind += end - at
		}
		return behind, nil
	}
}
