package mqtt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/internal/mqttclient"
)

// connection is a connection in either version of the protocol.
type connection struct {
	s       *session
	l       *link
	options mqttclient.Options
	conn    *mqttclient.Conn // nil until it is open; set before the first message comes
	acks    []mqttclient.Ack // of ack alone
}

func newConnection(s *session, l *link, username string, password Secret) *connection {
	d := &connection{s: s, l: l}
	version := mqttclient.V311
	if s.cfg.v5() {
		version = mqttclient.V5
	}
	d.options = mqttclient.Options{
		Version: version, ClientID: s.id, CleanStart: s.cfg.CleanSession, SessionExpiry: uint32(s.cfg.SessionExpiry.Seconds()),
		Username: username, Password: password.Reveal(), ReceiveMaximum: uint16(s.cfg.Window), Headers: s.cfg.Meta,
		KeepAlive: s.cfg.KeepAlive, PingTimeout: s.cfg.PingTimeout, WriteTimeout: sendTimeout,
		OnOpen: func(c *mqttclient.Conn) { d.conn = c }, OnEnd: l.end, Clock: s.clock, Log: s.log,
	}
	return d
}

func (d *connection) connect(ctx context.Context) (bool, error) {
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
type receiver connection

func (r *receiver) Receive(m mqttclient.Message) {
	r.s.inbox.receive(r.l, arrival{
		topic: m.Topic, payload: m.Payload, id: m.ID, qos: m.QoS, retained: m.Retained, duplicate: m.Duplicate, headers: m.Headers,
	})
}

// Caught wakes who reads the inbox: once for all that came in together.
func (r *receiver) Caught() (patient bool) {
	wake(r.s.inbox.ready)
	return r.s.inbox.roomy()
}

// Answered is for publishers.
func (r *receiver) Answered(mqttclient.Answer) {}

func (d *connection) subscribe() (*suback, error) {
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
	return &suback{r, filters}, err
}

// idInUse says nothing of a filter.
const idInUse = 0x91

// suback is a subscription that the broker has been asked for.
type suback struct {
	*mqttclient.Request
	filters []string
}

// denied are the filters that the broker refuses, and its reason. It must not be called before Done.
func (a *suback) denied() (filters []string, reason string, err error) {
	g := a.Granted()
	if len(g.Codes) != len(a.filters) {
		return nil, "", fmt.Errorf("an answer for %d filters, and %d were asked for", len(g.Codes), len(a.filters))
	}
	for i, code := range g.Codes {
		if code == idInUse {
			return nil, "", errors.New("the broker says that the id of the subscription is in use")
		}
		if mqttclient.Refused(code) {
			filters = append(filters, a.filters[i])
		}
	}
	return filters, g.Reason, nil
}

// ack returns when the network has taken the acks: those that it has not are sent when the broker sends the messages again.
func (d *connection) ack(messages []*message) []*message {
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

func (d *connection) ackNow(m *message) { d.conn.Acks([]mqttclient.Ack{ackOf(m)}) }

func ackOf(m *message) mqttclient.Ack {
	if m.qos == 2 {
		return mqttclient.Ack{Kind: mqttclient.Pubrec, ID: m.id}
	}
	return mqttclient.Ack{Kind: mqttclient.Puback, ID: m.id}
}

// leave asks the broker something before it goes: a connection that is closed while messages are coming in is reset, and a reset may
// take the acks with it that the broker has not read yet.
func (d *connection) leave() {
	if d.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), quiesce)
	defer cancel()
	_ = d.conn.Heard(ctx) // a connection that is gone has nothing to tell any more
	d.conn.Goodbye(false)
}
