package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

const (
	// inFlight is how many messages the publisher leaves unconfirmed.
	inFlight = 1024
	// ahead is how many messages a closed load may be ahead of who reads them: what is more would only wait in the broker, which saves its
	// queues to disk every second.
	ahead = 20_000
)

// dial opens a connection to the broker.
func dial(ctx context.Context, addr, id string, clean bool, h mqttclient.Handler, open func(*mqttclient.Conn)) (*mqttclient.Conn, error) {
	b, err := mqttconn.ParseBroker("tcp://" + addr)
	if err != nil {
		return nil, err
	}
	return mqttclient.Dial(ctx, mqttclient.Target{Brokers: []mqttconn.Broker{b}, Timeout: 10 * time.Second}, mqttclient.Options{
		Version: mqttclient.V311, ClientID: id, CleanStart: clean, KeepAlive: 60 * time.Second, PingTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		OnOpen: open, Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler),
	}, h)
}

// subscribe asks for a topic and waits for the answer.
func subscribe(ctx context.Context, c *mqttclient.Conn, filter string) error {
	r, err := c.Subscribe([]mqttclient.Subscription{{Filter: filter, QoS: 1}})
	if err != nil {
		return err
	}
	select {
	case <-r.Done():
	case <-c.Done():
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	if g := r.Granted(); len(g.Codes) != 1 || mqttclient.Refused(g.Codes[0]) {
		return fmt.Errorf("the broker refuses the subscription of %q: %v", filter, g.Codes)
	}
	return nil
}

// session makes a session at the broker that keeps what is published to filter until somebody with that id comes; without a filter it
// drops the session.
func session(ctx context.Context, addr, id, filter string) error {
	c, err := dial(ctx, addr, id, true, deaf{}, nil)
	if err != nil {
		return err
	}
	c.Goodbye(false)
	if filter == "" {
		return nil
	}
	if c, err = dial(ctx, addr, id, false, deaf{}, nil); err != nil {
		return err
	}
	err = subscribe(ctx, c, filter)
	c.Goodbye(false)
	return err
}

type deaf struct{}

func (deaf) Receive(mqttclient.Message) {}
func (deaf) Caught() bool               { return false }
func (deaf) Answered(mqttclient.Answer) {}

// publisher publishes at QoS 1 over one connection: packets are made without allocation and written in bulk, so that little of the machine
// goes to it.
type publisher struct {
	deaf
	conn  *mqttclient.Conn
	out   mqttclient.Out
	sent  int64
	acked atomic.Int64
	bad   atomic.Int64
	buf   []byte
	wake  chan struct{}
}

func newPublisher(ctx context.Context, addr, id string) (*publisher, error) {
	p := &publisher{wake: make(chan struct{}, 1)}
	var err error
	p.conn, err = dial(ctx, addr, id, true, p, nil)
	return p, err
}

func (p *publisher) Answered(a mqttclient.Answer) {
	if mqttclient.Refused(a.Code) {
		p.bad.Add(1)
	}
	p.acked.Add(1)
}

func (p *publisher) Caught() bool {
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

// await waits until no more than so many are unconfirmed.
func (p *publisher) await(ctx context.Context, most int64) error {
	for p.sent-p.acked.Load() > most {
		select {
		case <-p.wake:
		case <-p.conn.Done():
			return fmt.Errorf("publisher: %w", p.conn.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if n := p.bad.Load(); n > 0 {
		return fmt.Errorf("publisher: the broker refused %d messages", n)
	}
	return nil
}

func (p *publisher) publish(ctx context.Context, topic, payload []byte) error {
	if p.sent-p.acked.Load() >= inFlight {
		if err := p.await(ctx, inFlight-1); err != nil {
			return err
		}
	}
	p.out = mqttclient.Out{Topic: topic, Payload: payload, ID: uint16(p.sent%65535) + 1, QoS: 1}
	p.sent++
	p.conn.Publish(&p.out)
	return nil
}

// load publishes the events of a load, and returns when the broker has confirmed all.
func (p *publisher) load(ctx context.Context, l *harness.Load, r *readings, received *atomic.Int64) error {
	var payload []byte
	for {
		first, n := l.Take(ctx, 64)
		if n == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return p.await(ctx, 0)
		}
		for !l.Open() && first-received.Load() > ahead && ctx.Err() == nil {
			time.Sleep(200 * time.Microsecond)
		}
		for i := first; i < first+int64(n); i++ {
			var topic []byte
			topic, payload = r.append(payload[:0], i)
			if err := p.publish(ctx, topic, payload); err != nil {
				return err
			}
		}
	}
}
