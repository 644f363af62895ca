package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

const (
	// ackTimeout is how long a message may stay unconfirmed on a connection before it is published again. The other side drops the
	// repeat by its id.
	ackTimeout = 30 * time.Second
	// retryPause is the pause between two attempts to connect or to publish.
	retryPause = 500 * time.Millisecond
)

// Broker says where to publish.
type Broker struct {
	URL      string
	Username string
	Password string
	// ClientID is followed by -0, -1 … for each connection.
	ClientID    string
	Connections int
	// InFlight is how many messages may be unconfirmed per connection.
	InFlight int
}

// outgoing is a message on its way. The client keeps the payload by reference until it is confirmed, so nobody may change it.
type outgoing struct {
	topic   string
	payload []byte
	token   paho.Token
}

// publisher publishes at QoS 1 over several connections and keeps at it until each message is confirmed.
type publisher struct {
	conns   []*connection
	acked   atomic.Int64
	retries atomic.Int64
	log     *slog.Logger
	// ctx ends when the publisher gives up on what is not confirmed.
	ctx    context.Context
	giveUp context.CancelFunc
	wg     sync.WaitGroup
}

type connection struct {
	client paho.Client
	queue  chan outgoing
	flight chan outgoing
}

// dial connects. A broker that cannot be reached is tried again until ctx ends; one that refuses is an error.
func dial(ctx context.Context, b Broker, log *slog.Logger) (*publisher, error) {
	own, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	p := &publisher{log: log, ctx: own, giveUp: giveUp}
	for i := range b.Connections {
		c := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL).SetClientID(fmt.Sprintf("%s-%d", b.ClientID, i)).
			SetUsername(b.Username).SetPassword(b.Password).SetCleanSession(true).SetStore(paho.NewOrderedMemoryStore()).
			SetAutoReconnect(true).SetMaxReconnectInterval(2 * time.Second).SetConnectTimeout(5 * time.Second).
			SetKeepAlive(30 * time.Second).SetConnectionLostHandler(func(_ paho.Client, err error) {
			log.Warn("connection to the broker lost, connecting again", "broker", b.URL, "connection", i, "err", err)
		}))
		if err := connect(ctx, c, b, log); err != nil {
			p.close()
			return nil, err
		}
		conn := &connection{client: c, queue: make(chan outgoing, 16), flight: make(chan outgoing, max(1, b.InFlight-1))}
		p.conns = append(p.conns, conn)
		p.wg.Go(func() { p.send(conn) })
		p.wg.Go(func() { p.confirm(conn) })
	}
	return p, nil
}

func connect(ctx context.Context, c paho.Client, b Broker, log *slog.Logger) error {
	for warned := false; ; warned = true {
		token := c.Connect()
		select {
		case <-token.Done():
		case <-ctx.Done():
			c.Disconnect(0)
			return fmt.Errorf("MQTT broker %s: %w", b.URL, ctx.Err())
		}
		err := token.Error()
		if err == nil {
			return nil
		}
		for _, refused := range []error{packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised, packets.ErrorRefusedIDRejected} {
			if errors.Is(err, refused) {
				return fmt.Errorf("MQTT broker %s refuses user %q: %w: check mqtt.username and mqtt.password", b.URL, b.Username, err)
			}
		}
		if !warned {
			log.Warn("the MQTT broker cannot be reached, trying again until it can", "broker", b.URL, "err", err)
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return fmt.Errorf("MQTT broker %s cannot be reached: %w: is it running, and is mqtt.broker right?", b.URL, err)
		}
	}
}

// publish hands a message over; messages of one lane keep their order as long as the connection holds. It blocks while the broker
// is slow or away.
func (p *publisher) publish(ctx context.Context, lane int, topic string, payload []byte) error {
	select {
	case p.conns[lane%len(p.conns)].queue <- outgoing{topic: topic, payload: payload}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *publisher) send(c *connection) {
	defer close(c.flight)
	for m := range c.queue {
		m.token = c.client.Publish(m.topic, 1, false, m.payload)
		c.flight <- m
	}
}

// confirm waits for the messages in turn: the first unconfirmed one holds the window.
func (p *publisher) confirm(c *connection) {
	for m := range c.flight {
		for !p.confirmed(m.token) && p.ctx.Err() == nil {
			p.retries.Add(1)
			select {
			case <-p.ctx.Done():
			case <-time.After(retryPause):
				m.token = c.client.Publish(m.topic, 1, false, m.payload)
			}
		}
		if p.ctx.Err() == nil {
			p.acked.Add(1)
		}
	}
}

func (p *publisher) confirmed(t paho.Token) bool {
	select {
	case <-t.Done():
		return t.Error() == nil
	default:
	}
	timer := time.NewTimer(ackTimeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error() == nil
	case <-timer.C:
	case <-p.ctx.Done():
	}
	return false
}

// finish waits until everything is confirmed or ctx ends, and closes the connections.
func (p *publisher) finish(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.giveUp)
	defer stop()
	p.close()
}

func (p *publisher) close() {
	for _, c := range p.conns {
		close(c.queue)
	}
	p.wg.Wait()
	p.giveUp()
	for _, c := range p.conns {
		c.client.Disconnect(250)
	}
}
