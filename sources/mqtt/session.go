package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

const (
	// shortLife: a connection that ends sooner counts as failed.
	shortLife = 15 * time.Second
	// takeovers is how many short lives in a row look like a second client with the same id.
	takeovers = 3
	// repeatWarning is how often a lasting trouble is logged again.
	repeatWarning = time.Minute
	// subackPatience is how long the answer to a subscription may take before somebody is told.
	subackPatience = 30 * time.Second
)

// session is one client of the source: it keeps one connection at a time alive and fills the inbox from it.
type session struct {
	cfg     Config
	id      string
	brokers []mqttconn.Broker
	clock   flow.Clock
	log     *slog.Logger
	count   func(name string, n int64)
	inbox   *inbox

	connected  bool // at least once
	toldExpiry bool
	warned     map[string]time.Time // by cause
	failures   int
}

// run keeps the session connected until ctx ends. An error is permanent.
func (s *session) run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = min(200*time.Millisecond, s.cfg.MaxReconnectInterval), s.cfg.MaxReconnectInterval, 2
	pause.Reset()
	short := 0
	for ctx.Err() == nil {
		l, err := s.connect(ctx)
		if ctx.Err() != nil {
			s.leave(l)
			return nil
		}
		if err != nil {
			s.leave(l)
			if isPermanent(err) {
				return fmt.Errorf("mqtt source: client %q: %w", s.id, err)
			}
			s.failures++
			s.warn("mqtt: not connected, trying again", err)
			if s.clock.Sleep(ctx, pause.NextBackOff()) != nil {
				return nil
			}
			continue
		}
		s.recovered()
		since := s.clock.Now()
		select {
		case <-ctx.Done():
			s.leave(l)
			return nil
		case <-l.gone:
		}
		s.leave(l)
		if errors.Is(l.reason, errPaused) {
			s.log.Warn("mqtt: paused: messages are not read fast enough, the broker holds them back meanwhile", "client", s.id)
			if !s.awaitRoom(ctx) {
				return nil
			}
			continue
		}
		var ended *mqttconn.DisconnectedError
		if errors.As(l.reason, &ended) && ended.Code == mqttconn.SessionTakenOver {
			s.warn("mqtt: connection lost", fmt.Errorf("%w: another client uses the id %q; give every instance its own client_id", l.reason, s.id))
		} else if s.clock.Now().Sub(since) >= shortLife {
			short = 0
			pause.Reset()
			s.log.Warn("mqtt: connection lost", "client", s.id, "err", l.reason)
		} else if short++; short >= takeovers {
			s.warn("mqtt: connection lost again and again", fmt.Errorf("%w: the last %d connections ended within seconds: another client seems to use the id %q; give every instance its own client_id", l.reason, short, s.id))
		} else {
			s.log.Warn("mqtt: connection lost", "client", s.id, "err", l.reason)
		}
		if s.clock.Sleep(ctx, pause.NextBackOff()) != nil {
			return nil
		}
	}
	return nil
}

// leave ends a connection in good order, as far as there is one.
func (s *session) leave(l *link) {
	s.inbox.end(l)
	l.disconnect()
}

// connect makes a connection and subscribes. The link is never nil.
func (s *session) connect(ctx context.Context) (*link, error) {
	l := newLink()
	who, err := s.prepare(ctx, l)
	if err != nil {
		return l, s.explain(who, err)
	}
	s.inbox.begin(l)
	present, err := l.driver.connect(ctx)
	if ctx.Err() != nil {
		return l, ctx.Err()
	}
	if err != nil {
		return l, s.explain(who, err)
	}
	if !present {
		s.inbox.newSession()
		if s.connected && !s.cfg.CleanSession {
			s.log.Warn("mqtt: the broker has forgotten the session: what was published while it was away is lost, and what was not acked comes only if it is still held here", "client", s.id)
		}
	}
	if err := s.subscribe(ctx, l); err != nil {
		return l, err
	}
	if s.connected {
		s.count("reconnects", 1)
	}
	s.connected = true
	s.inbox.subscribed(l)
	return l, nil
}

// prepare asks for what each attempt to connect asks for anew, and makes the connection.
func (s *session) prepare(ctx context.Context, l *link) (who mqttconn.Attempt, err error) {
	who = mqttconn.Attempt{Brokers: s.addresses(), ClientID: s.id, Username: s.cfg.Username, Protocol: s.cfg.Protocol}
	password := s.cfg.Password
	if s.cfg.Credentials != nil {
		if who.Username, password, err = s.cfg.Credentials.Ask(ctx, s.cfg.ConnectTimeout); err != nil {
			return who, err
		}
	}
	l.driver = newConnection(s, l, who.Username, password)
	return who, nil
}

// explain says what a failed attempt means. What a broker refuses later on may be its own trouble, and files that cannot be read
// may be half way to new ones.
func (s *session) explain(who mqttconn.Attempt, err error) error {
	if isPermanent(err) {
		return err
	}
	hopeless, err := who.Explain(err)
	if hopeless && !s.connected {
		return permanent{err}
	}
	return err
}

// subscribe is done at each connect: a session that the broker has kept is not harmed, one that it lost is made anew.
func (s *session) subscribe(ctx context.Context, l *link) error {
	asked, err := l.driver.subscribe()
	if err != nil {
		return fmt.Errorf("broker %s: subscribe: %w", s.addresses(), err)
	}
	late := s.clock.NewTimer(subackPatience)
	defer late.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.gone:
			return fmt.Errorf("broker %s: connection lost before it answered the subscription: %w", s.addresses(), l.reason)
		case <-late.C():
			s.log.Warn("mqtt: the broker has not answered the subscription yet", "client", s.id, "brokers", s.addresses())
		case <-asked.Done():
			waiting = false
		}
	}
	filters, reason, err := asked.denied()
	if err != nil {
		return fmt.Errorf("broker %s: subscribe: %w", s.addresses(), err)
	}
	if len(filters) == 0 {
		return nil
	}
	for i, f := range filters {
		filters[i] = strconv.Quote(f)
	}
	slices.Sort(filters)
	if reason != "" {
		reason = " (" + reason + ")"
	}
	return permanent{fmt.Errorf("broker %s refuses the subscription to %s%s: allow it in the broker's access rules for user %q and client id %q, or change topics",
		s.addresses(), strings.Join(filters, ", "), reason, s.cfg.Username, s.id)}
}

// awaitRoom waits until the inbox is half empty, and reports whether ctx lives.
func (s *session) awaitRoom(ctx context.Context) bool {
	for s.inbox.fill() > s.cfg.Buffer/2 {
		select {
		case <-ctx.Done():
			return false
		case <-s.inbox.space:
		}
	}
	return true
}

// warn logs a trouble when it is new and then now and again.
func (s *session) warn(msg string, err error) {
	now := s.clock.Now()
	cause := mqttconn.Cause(msg, err)
	if at, ok := s.warned[cause]; ok && now.Sub(at) < repeatWarning {
		return
	}
	if s.warned == nil {
		s.warned = map[string]time.Time{}
	}
	s.warned[cause] = now
	s.log.Warn(msg, "client", s.id, "attempts", s.failures, "err", err)
}

func (s *session) recovered() {
	if s.failures > 0 {
		s.log.Info("mqtt: connected", "client", s.id, "brokers", s.addresses(), "attempts", s.failures+1)
		s.failures = 0
		clear(s.warned)
	}
}

func (s *session) addresses() string {
	names := make([]string, len(s.brokers))
	for i, b := range s.brokers {
		names[i] = b.String()
	}
	return strings.Join(names, ", ")
}

// permanent marks an error that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}
