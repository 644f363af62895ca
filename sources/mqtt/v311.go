package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

const (
	// refused is the code of a filter in a SUBACK.
	refused = 0x80
	// nobody is a topic filter that nobody subscribes to, so that unsubscribing it changes nothing.
	nobody = "$millrace/nobody"
)

// v311 is a connection in MQTT 3.1.1: a client of the library that never connects again, so that nothing of an old connection can
// reach a new one.
type v311 struct {
	s      *session
	client paho.Client
	conn   atomic.Pointer[conn] // the network connection, once there is one
}

func newV311(ctx context.Context, s *session, l *link, conf *tls.Config, username string, password Secret) *v311 {
	d := &v311{s: s}
	o := paho.NewClientOptions().
		SetClientID(s.id).
		SetCleanSession(s.cfg.CleanSession).
		SetProtocolVersion(4).
		SetKeepAlive(s.cfg.KeepAlive).
		SetPingTimeout(s.cfg.PingTimeout).
		SetConnectTimeout(s.cfg.ConnectTimeout).
		SetWriteTimeout(sendTimeout).
		SetUsername(username).
		SetPassword(password.Reveal()).
		SetOrderMatters(true).
		SetAutoAckDisabled(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(noStore{})
	for _, b := range s.brokers {
		o.Servers = append(o.Servers, b.URL)
	}
	o.SetCustomOpenConnectionFn(func(u *url.URL, o paho.ClientOptions) (net.Conn, error) {
		opened, err := mqttconn.Dial(ctx, u, conf, s.cfg.ConnectTimeout, o)
		if err != nil {
			return nil, err
		}
		c := newConn(opened)
		d.conn.Store(c)
		return c, nil
	})
	// Set before connecting: a kept session delivers before a subscription could.
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("mqtt: panic on receipt", "client", s.id, "err", p)
				l.end(fmt.Errorf("panic: %v", p))
			}
		}()
		s.inbox.receive(l, arrival{
			topic: m.Topic(), payload: m.Payload(), id: m.MessageID(), qos: m.Qos(), retained: m.Retained(), duplicate: m.Duplicate(), from: m,
		})
	})
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { l.end(err) })
	d.client = paho.NewClient(o)
	return d
}

func (d *v311) connect(ctx context.Context) (bool, error) {
	tok := d.client.Connect().(*paho.ConnectToken)
	select {
	case <-ctx.Done():
		if c := d.conn.Load(); c != nil { // ends the attempt
			_ = c.Close()
		}
		<-tok.Done()
		return false, ctx.Err()
	case <-tok.Done():
	}
	return tok.SessionPresent(), tok.Error()
}

func (d *v311) subscribe() (subscription, error) {
	filters := map[string]byte{}
	for _, f := range d.s.cfg.filters() {
		filters[f] = *d.s.cfg.QoS
	}
	return suback311{d.client.SubscribeMultiple(filters, nil).(*paho.SubscribeToken)}, nil
}

type suback311 struct{ *paho.SubscribeToken }

func (a suback311) denied() (filters []string, _ string, err error) {
	for filter, code := range a.Result() {
		if code == refused {
			filters = append(filters, filter)
		}
	}
	return filters, "", a.Error()
}

// ack looks at the connection before each ack: the library drops acks without a word when there is none.
func (d *v311) ack(messages []*message) []*message {
	c := d.conn.Load()
	if c != nil && len(messages) > 1 {
		c.cork()
		defer c.uncork()
	}
	for i, m := range messages {
		if c != nil && c.broken.Load() {
			return messages[i:]
		}
		m.from.Ack()
	}
	return nil
}

func (d *v311) ackNow(m *message) { m.from.Ack() }

func (d *v311) leave(clock flow.Clock) {
	t := clock.NewTimer(quiesce)
	defer t.Stop()
	select {
	case <-d.client.Unsubscribe(nobody).Done():
	case <-t.C():
	}
	d.client.Disconnect(uint(quiesce.Milliseconds()))
}

// noStore keeps nothing. The client would write every message down until it is acked, and never look at it again: what is
// not acked is the broker's to keep.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
