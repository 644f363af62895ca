package mqtt

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
)

// v5 is a connection in MQTT 5.
type v5 struct {
	s       *session
	l       *link
	options mqttclient.Options
	conn    *mqttclient.Conn // nil until it is open; set before the first message comes
	acks    []mqttclient.Ack // of ack alone
}

func newV5(s *session, l *link, username string, password Secret) *v5 {
	d := &v5{s: s, l: l}
	d.options = mqttclient.Options{
		Version: mqttclient.V5, ClientID: s.id, CleanStart: s.cfg.CleanSession, SessionExpiry: uint32(s.cfg.SessionExpiry.Seconds()),
		Username: username, Password: password.Reveal(), ReceiveMaximum: uint16(s.cfg.Window), Headers: s.cfg.Meta,
		KeepAlive: s.cfg.KeepAlive, PingTimeout: s.cfg.PingTimeout, WriteTimeout: sendTimeout,
		OnOpen: func(c *mqttclient.Conn) { d.conn = c }, OnEnd: l.end, Clock: s.clock, Log: s.log,
	}
	return d
}

func (d *v5) connect(ctx context.Context) (bool, error) {
	target := mqttclient.Target{Brokers: d.s.brokers, TLS: d.s.cfg.TLS, Timeout: d.s.cfg.ConnectTimeout}
	c, err := mqttclient.Dial(ctx, target, d.options, (*receiver)(d))
	if err != nil {
		return false, err
	}
	if d.s.cfg.ShareGroup != "" && !c.Limits.SharedSubs {
		return false, permanent{fmt.Errorf("broker %s has no shared subscriptions: allow them there, or leave share_group empty and use one client", d.s.addresses())}
	}
	if granted := c.Limits.SessionExpiry; granted < d.options.SessionExpiry && !d.s.toldExpiry {
		d.s.toldExpiry = true
		d.s.log.Warn("mqtt: the broker keeps the session for less time than session_expiry says: what is published in a longer absence is lost",
			"client", d.s.id, "granted", time.Duration(granted)*time.Second, "asked", d.s.cfg.SessionExpiry)
	}
	return c.SessionPresent, nil
}

// receiver is what the connection hands messages to.
type receiver v5

func (r *receiver) Receive(m mqttclient.Message) {
	r.s.inbox.receive(r.l, arrival{
		topic: m.Topic, payload: m.Payload, id: m.ID, qos: m.QoS, retained: m.Retained, duplicate: m.Duplicate, headers: m.Headers,
	})
}

// Answered is for publishers.
func (r *receiver) Answered(mqttclient.Answer) {}

func (d *v5) subscribe() (subscription, error) {
	retained := mqttclient.IfNew
	if *d.s.cfg.DropRetained {
		retained = mqttclient.Never
	} else if d.s.cfg.CleanSession {
		retained = mqttclient.Always
	}
	filters := d.s.cfg.filters()
	subs := make([]mqttclient.Subscription, len(filters))
	for i, f := range filters {
		subs[i] = mqttclient.Subscription{Filter: f, QoS: *d.s.cfg.QoS, Retained: retained}
	}
	r, err := d.conn.Subscribe(subs)
	return suback5{r, filters}, err
}

type suback5 struct {
	*mqttclient.Request
	filters []string
}

func (a suback5) denied() (filters []string, reason string, err error) {
	g := a.Granted()
	if len(g.Codes) != len(a.filters) {
		return nil, "", fmt.Errorf("an answer for %d filters, and %d were asked for", len(g.Codes), len(a.filters))
	}
	for i, code := range g.Codes {
		if mqttclient.Refused(code) {
			filters = append(filters, a.filters[i])
		}
	}
	return filters, g.Reason, nil
}

// ack returns when the network has taken the acks: those that it has not are sent when the broker sends the messages again.
func (d *v5) ack(messages []*message) []*message {
	d.acks = d.acks[:0]
	for _, m := range messages {
		d.acks = append(d.acks, ackOf(m))
	}
	end := d.conn.Acks(d.acks)
	written, _ := d.conn.Written(context.Background(), end) // ends with the connection
	if written >= end {
		return nil
	}
	unsent := min(len(messages), int(end-written+mqttclient.AckBytes-1)/mqttclient.AckBytes)
	return messages[len(messages)-unsent:]
}

func (d *v5) ackNow(m *message) { d.conn.Acks([]mqttclient.Ack{ackOf(m)}) }

func ackOf(m *message) mqttclient.Ack {
	if m.qos == 2 {
		return mqttclient.Ack{Kind: mqttclient.Pubrec, ID: m.id}
	}
	return mqttclient.Ack{Kind: mqttclient.Puback, ID: m.id}
}

func (d *v5) leave(flow.Clock) {
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), quiesce)
	defer cancel()
	_ = d.conn.Heard(ctx) // a connection that is gone has nothing to tell any more
	d.conn.Goodbye(false)
}
