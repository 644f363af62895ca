package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

const (
	// shortLife: a connection that ends sooner counts as failed.
	shortLife = 15 * time.Second
	// suspicious is how many short lives in a row make a warning that says what may be behind them.
	suspicious = 3
	// repeatWarning is how often a lasting trouble is logged again.
	repeatWarning = time.Minute
)

// publisher keeps one connection to the broker, from Open to Close, and what is in flight on it.
type publisher struct {
	cfg    Config
	rt     flow.SinkRuntime
	target mqttclient.Target

	life   context.Context // nil before Open has succeeded; ends with Close
	cancel context.CancelFunc
	keeper sync.WaitGroup

	mu      sync.Mutex
	conn    *mqttclient.Conn // nil between two
	changed chan struct{}    // closed at the next change of conn
	trouble error            // why there is no connection
	flights flights
	limit   int // of what is in flight on this connection
	// progress gets something whenever a flight has landed.
	progress  chan struct{}
	landed    int64 // on this connection
	nobody    int64 // confirmed, and nobody there to get it; since the last report
	exhausted error // a refusal that may pass

	// Of the keeper alone.
	warned   map[string]time.Time // by cause
	failures int
}

// open connects for the first time; the engine repeats it after a transient error.
func (p *publisher) open(ctx context.Context, rt flow.SinkRuntime) error {
	if p.life != nil {
		return nil
	}
	p.rt = rt
	p.cfg = p.cfg.withDefaults(rt)
	p.target = mqttclient.Target{TLS: p.cfg.TLS, Timeout: p.cfg.ConnectTimeout}
	for _, b := range p.cfg.Brokers {
		parsed, err := mqttconn.ParseBroker(b)
		if err != nil {
			return fmt.Errorf("mqtt sink: brokers %w", err)
		}
		p.target.Brokers = append(p.target.Brokers, parsed)
	}
	p.flights = newFlights(p.cfg.Inflight)
	p.changed, p.progress = make(chan struct{}), make(chan struct{}, 1)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c, permanent, err := p.first(ctx)
	if err != nil {
		cancel()
		if !permanent {
			err = flow.Transient(err)
		}
		return err
	}
	p.life, p.cancel = life, cancel
	p.up(c)
	p.keeper.Go(func() { p.keep(c) })
	return nil
}

// first connects with a session that nothing has happened in. An earlier one may know ids of messages that this process gives to
// others, which the broker would take for repeats.
func (p *publisher) first(ctx context.Context) (c *mqttclient.Conn, permanent bool, err error) {
	if p.cfg.keepsSession() && !p.cfg.v5() {
		// MQTT 3.1.1 cannot ask for a new session that is kept: the first step throws the old one away.
		if c, permanent, err = p.connect(ctx, true); err != nil {
			return nil, permanent, err
		}
		c.Goodbye(false)
		return p.connect(ctx, false)
	}
	return p.connect(ctx, true)
}

// connect makes one attempt.
func (p *publisher) connect(ctx context.Context, clean bool) (c *mqttclient.Conn, permanent bool, err error) {
	opts := mqttclient.Options{
		Version: mqttclient.V311, ClientID: p.cfg.ClientID, CleanStart: clean, Username: p.cfg.Username, Password: p.cfg.Password.Reveal(),
		KeepAlive: p.cfg.KeepAlive, PingTimeout: p.cfg.PingTimeout, WriteTimeout: p.cfg.WriteTimeout, Clock: p.rt.Clock, Log: p.rt.Log,
	}
	if p.cfg.v5() {
		opts.Version, opts.SessionExpiry = mqttclient.V5, uint32(p.cfg.SessionExpiry.Seconds())
	}
	if w := p.cfg.Will; w.Topic != "" {
		opts.Will = &mqttclient.Will{
			Topic: w.Topic, Payload: []byte(w.Payload), QoS: w.QoS, Retained: w.Retained, Delay: uint32(w.Delay.Seconds()),
		}
	}
	if p.cfg.Credentials != nil {
		username, password, err := p.cfg.Credentials.Ask(ctx, p.cfg.ConnectTimeout)
		if err != nil {
			return nil, false, fmt.Errorf("mqtt sink: client %q: %w", p.cfg.ClientID, err)
		}
		opts.Username, opts.Password = username, password.Reveal()
	}
	if c, err = mqttclient.Dial(ctx, p.target, opts, handler{p}); err != nil {
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		who := mqttconn.Attempt{Brokers: p.addresses(), ClientID: p.cfg.ClientID, Username: opts.Username, Protocol: p.cfg.Protocol}
		permanent, err = who.Explain(err)
		return nil, permanent, fmt.Errorf("mqtt sink: client %q: %w", p.cfg.ClientID, err)
	}
	if err := p.fits(c.Limits); err != nil {
		c.Goodbye(false)
		return nil, true, err
	}
	return c, false, nil
}

// fits tells what the broker cannot do that the configuration asks for.
func (p *publisher) fits(l mqttclient.Limits) error {
	switch {
	case *p.cfg.QoS > l.MaximumQoS:
		return fmt.Errorf("mqtt sink: broker %s takes QoS %d at most: set qos to it", p.addresses(), l.MaximumQoS)
	case p.cfg.Retained && !l.Retain:
		return fmt.Errorf("mqtt sink: broker %s keeps no retained messages: set retained to false", p.addresses())
	}
	return nil
}

// keep holds a connection until Close.
func (p *publisher) keep(c *mqttclient.Conn) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = min(200*time.Millisecond, p.cfg.MaxReconnectInterval), p.cfg.MaxReconnectInterval, 2
	pause.Reset()
	short, stuck := 0, 0
	for {
		since := p.rt.Clock.Now()
		select {
		case <-p.life.Done():
			p.down(errClosed)
			c.Goodbye(true)
			return
		case <-c.Done():
		}
		c.Wait()
		landed, oldest := p.down(c.Err())
		if landed > 0 || oldest == "" {
			stuck = 0
		} else {
			stuck++
		}
		var ended *mqttconn.DisconnectedError
		switch {
		case p.rt.Clock.Now().Sub(since) >= shortLife:
			short = 0
			pause.Reset()
		case errors.As(c.Err(), &ended) && ended.Code == mqttconn.SessionTakenOver:
			short = suspicious
		default:
			short++
		}
		switch {
		case stuck >= suspicious-1 && short >= suspicious:
			p.warn("mqtt: the connection breaks again and again, each time before the broker has confirmed anything: "+
				"if it ends connections over messages that are too large, set max_packet_bytes to its limit", c.Err(), "oldest", oldest)
		case short >= suspicious:
			p.warn("mqtt: connection lost again and again: another client seems to use this id; give every instance its own client_id", c.Err())
		default:
			p.rt.Log.Warn("mqtt: connection lost", "client", p.cfg.ClientID, "err", c.Err())
		}
		if c = p.reconnect(pause); c == nil {
			return
		}
	}
}

// reconnect tries until it has a connection, nil after Close.
func (p *publisher) reconnect(pause *backoff.ExponentialBackOff) *mqttclient.Conn {
	for {
		if p.rt.Clock.Sleep(p.life, pause.NextBackOff()) != nil {
			return nil
		}
		// Without a session to go on with, a clean one makes sure that none is left over.
		c, _, err := p.connect(p.life, !p.cfg.keepsSession())
		if err == nil {
			if p.failures > 0 {
				p.rt.Log.Info("mqtt: connected", "client", p.cfg.ClientID, "brokers", p.addresses(), "attempts", p.failures+1)
				p.failures = 0
				clear(p.warned)
			}
			p.rt.Count("reconnects", 1)
			p.up(c)
			return c
		}
		if p.life.Err() != nil {
			return nil
		}
		p.failures++
		p.mu.Lock()
		p.trouble = err
		p.mu.Unlock()
		p.warn("mqtt: not connected, trying again", err)
	}
}

var errClosed = errors.New("mqtt sink: closed")

// down says that there is no connection any more. It tells how much was confirmed on it, and the oldest message in flight.
func (p *publisher) down(reason error) (landed int64, oldest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.trouble = nil, reason
	if p.flights.span() > 0 {
		l := p.flights.at(p.flights.base)
		e := l.block.entry(l.row)
		oldest = fmt.Sprintf("%d bytes for topic %q", len(e.payload), e.topic)
	}
	p.change()
	return p.landed, oldest
}

// up makes c the connection of now, and publishes again what is in flight, if the broker knows of it; else that is pending again.
func (p *publisher) up(c *mqttclient.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.trouble, p.landed = c, nil, 0
	p.limit = min(p.cfg.Inflight, c.Limits.ReceiveMaximum)
	if !c.SessionPresent {
		p.count("resent", p.flights.clear())
		p.change()
		return
	}
	again := 0
	for place := p.flights.base; place < p.flights.next; place++ {
		l := p.flights.at(place)
		switch {
		case l.over:
		case l.released:
			c.Acks([]mqttclient.Ack{{Kind: mqttclient.Pubrel, ID: idOf(place)}})
		default:
			p.publish(c, l.block, l.row, idOf(place), true)
			again++
		}
	}
	p.count("resent", again)
	p.change()
}

func (p *publisher) count(name string, n int) {
	if n > 0 {
		p.rt.Count(name, int64(n))
	}
}

func (p *publisher) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// publish queues a row on a connection and returns the place behind it.
func (p *publisher) publish(c *mqttclient.Conn, b *block, row int, id uint16, again bool) uint64 {
	e := b.entry(row)
	return c.Publish(&mqttclient.Out{
		Topic: e.topic, Payload: e.payload, Props: e.props, ID: id, QoS: *p.cfg.QoS, Retained: e.retained, Duplicate: again,
	})
}

// handler takes the broker's answers.
type handler struct{ p *publisher }

// Receive is for subscribers.
func (handler) Receive(mqttclient.Message) {}

// Caught is for subscribers: answers are waited for.
func (handler) Caught() bool { return false }

// Codes of MQTT 5 that an answer may carry.
const (
	noSubscribers = 0x10
	inUse         = 0x91 // of the id
	quotaExceeded = 0x97
)

func (h handler) Answered(a mqttclient.Answer) {
	p := h.p
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.flights.find(a.ID)
	if l == nil {
		return
	}
	switch {
	case a.Kind == mqttclient.Pubcomp: // whatever the code: one that is not known any more was taken before
		p.land(l)
	case mqttclient.Refused(a.Code):
		p.refuse(l, a)
	case a.Kind == mqttclient.Puback:
		if a.Code == noSubscribers {
			p.nobody++
		}
		p.land(l)
	default:
		l.released = true
		if p.conn != nil {
			p.conn.Acks([]mqttclient.Ack{{Kind: mqttclient.Pubrel, ID: a.ID}})
		}
	}
}

func (p *publisher) land(l *flight) {
	l.block.finish(l.row)
	p.over(l)
}

func (p *publisher) over(l *flight) {
	p.flights.land(l)
	p.landed++
	select {
	case p.progress <- struct{}{}:
	default:
	}
}

// refuse rejects a message that the broker does not take, or makes it pending again where that may pass.
func (p *publisher) refuse(l *flight, a mqttclient.Answer) {
	e := l.block.entry(l.row)
	err := fmt.Errorf("mqtt sink: broker %s refuses a message for topic %q with code 0x%02x, %s", p.addresses(), e.topic, a.Code, a.Reason)
	if a.Code == quotaExceeded || a.Code == inUse {
		l.block.state[l.row] = pending
		p.exhausted = err
	} else {
		l.block.reject(l.row, err)
	}
	p.over(l)
}

func (p *publisher) warn(msg string, err error, more ...any) {
	now := p.rt.Clock.Now()
	cause := mqttconn.Cause(msg, err)
	if at, ok := p.warned[cause]; ok && now.Sub(at) < repeatWarning {
		return
	}
	if p.warned == nil {
		p.warned = map[string]time.Time{}
	}
	p.warned[cause] = now
	p.rt.Log.Warn(msg, append([]any{"client", p.cfg.ClientID, "attempts", p.failures, "err", err}, more...)...)
}

func (p *publisher) addresses() string {
	names := make([]string, len(p.target.Brokers))
	for i, b := range p.target.Brokers {
		names[i] = b.String()
	}
	return strings.Join(names, ", ")
}

// close ends the connection and the keeper.
func (p *publisher) close(ctx context.Context) error {
	if p.life == nil {
		return nil
	}
	p.cancel()
	done := make(chan struct{})
	go func() {
		p.keeper.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mqtt sink: connection still closing: %w", ctx.Err())
	}
}
