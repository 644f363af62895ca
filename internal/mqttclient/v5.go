package mqttclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// v5 is MQTT 5.
type v5 struct{}

func (v5) connect(o Options) ([]byte, error) {
	p := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: byte(V5), ClientID: o.ClientID, CleanStart: o.CleanStart, KeepAlive: uint16(o.KeepAlive.Seconds()),
		UsernameFlag: o.Username != "", Username: o.Username, PasswordFlag: o.Password != "", Password: []byte(o.Password),
		// Asked for expressly: without it some brokers leave user properties out.
		Properties: &packets.Properties{RequestProblemInfo: new(byte(1)), SessionExpiryInterval: &o.SessionExpiry},
	}
	if o.ReceiveMaximum > 0 {
		p.Properties.ReceiveMaximum = &o.ReceiveMaximum
	}
	if w := o.Will; w != nil {
		p.WillFlag, p.WillTopic, p.WillMessage, p.WillQOS, p.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retained
		p.WillProperties = &packets.Properties{}
		if w.Delay > 0 {
			p.WillProperties.WillDelayInterval = &w.Delay
		}
	}
	return packed5(&p)
}

func packed5(p packets.Packet) ([]byte, error) {
	var b bytes.Buffer
	_, err := p.WriteTo(&b)
	return b.Bytes(), err
}

func (v5) connack(c *Conn, body []byte) error {
	if len(body) == 2 && body[1] != 0 { // the form of 3.1.1, from a broker that knows no other
		return &mqttconn.RefusedError{Code: packets.ConnackUnsupportedProtocolVersion}
	}
	a := packets.Connack{Properties: &packets.Properties{}}
	if err := a.Unpack(bytes.NewBuffer(body)); err != nil {
		return err
	}
	props := a.Properties
	if a.ReasonCode >= refusal {
		return &mqttconn.RefusedError{Code: a.ReasonCode, Name: names[a.ReasonCode], Reason: props.ReasonString, Reference: props.ServerReference}
	}
	c.SessionPresent = a.SessionPresent
	c.Limits = Limits{
		ReceiveMaximum: int(or(props.ReceiveMaximum, math.MaxUint16)),
		MaximumQoS:     or(props.MaximumQOS, 2),
		Retain:         or(props.RetainAvailable, 1) == 1,
		SharedSubs:     or(props.SharedSubAvailable, 1) == 1,
		MaxPacket:      int(or(props.MaximumPacketSize, 0)),
		SessionExpiry:  or(props.SessionExpiryInterval, c.opts.SessionExpiry),
	}
	if props.ServerKeepAlive != nil {
		c.keep = time.Duration(*props.ServerKeepAlive) * time.Second
	}
	return nil
}

// refusal is the first code that is one.
const refusal = 0x80

func or[V any](v *V, otherwise V) V {
	if v == nil {
		return otherwise
	}
	return *v
}

func (v5) message(c *Conn, p packet) (Message, error) {
	m, rest, err := cutMessage(c, p)
	if err != nil {
		return m, err
	}
	if m.Topic == "" {
		return m, errors.New("a topic alias, which was not asked for")
	}
	props, payload, err := cutProps(rest)
	if err != nil {
		return m, err
	}
	m.Payload = payload
	if c.opts.Headers && len(props) > 1 {
		m.Headers, err = headersOf(props)
	}
	return m, err
}

// cutProps takes properties off the beginning of b, with their size.
func cutProps(b []byte) (props, rest []byte, err error) {
	r := bytes.NewReader(b)
	n, err := readSize(r)
	if err != nil {
		return nil, nil, errTruncated
	}
	end := len(b) - r.Len() + n
	if end > len(b) {
		return nil, nil, errTruncated
	}
	return b[:end], b[end:], nil
}

func (v5) answer(p packet) (Answer, error) {
	if len(p.body) < 2 {
		return Answer{}, errTruncated
	}
	a := Answer{Kind: p.kind, ID: number(p.body)}
	if len(p.body) > 2 {
		a.Code = p.body[2]
	}
	if a.Code >= refusal {
		a.Reason = names[a.Code]
		if len(p.body) > 3 {
			var props packets.Properties
			if err := props.Unpack(bytes.NewBuffer(p.body[3:]), packets.PUBACK); err != nil {
				return a, err
			}
			a.Reason = join(a.Reason, props.ReasonString)
		}
	}
	return a, nil
}

// join puts a code's name and what the broker says into one text.
func join(name, reason string) string {
	switch {
	case name == "":
		return reason
	case reason == "":
		return name
	}
	return name + ": " + reason
}

func (v5) subscribe(id uint16, subs []Subscription) ([]byte, error) {
	p := packets.Subscribe{PacketID: id, Properties: &packets.Properties{}}
	for _, s := range subs {
		p.Subscriptions = append(p.Subscriptions, packets.SubOptions{Topic: s.Filter, QoS: s.QoS, RetainHandling: byte(s.Retained)})
	}
	return packed5(&p)
}

func (v5) unsubscribe(id uint16, filter string) ([]byte, error) {
	return packed5(&packets.Unsubscribe{PacketID: id, Topics: []string{filter}, Properties: &packets.Properties{}})
}

func (v5) subscribed(c *Conn, p packet) error {
	a := packets.Suback{Properties: &packets.Properties{}} // an UNSUBACK has the same form
	if err := a.Unpack(bytes.NewBuffer(p.body)); err != nil {
		return err
	}
	g := Granted{Codes: a.Reasons, Reason: a.Properties.ReasonString}
	if p.kind == suback {
		for _, code := range a.Reasons {
			if code >= refusal {
				g.Reason = join(names[code], g.Reason)
				break
			}
		}
	}
	c.requests.answer(a.PacketID, g)
	return nil
}

func (v5) disconnect(forget bool) []byte {
	if !forget {
		return []byte{disconnect << 4, 0}
	}
	return []byte{disconnect << 4, 7, packets.DisconnectNormalDisconnection, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 0}
}

func (v5) disconnected(p packet) error {
	d := packets.Disconnect{Properties: &packets.Properties{}}
	if len(p.body) > 0 {
		if err := d.Unpack(bytes.NewBuffer(p.body)); err != nil {
			return unexpected(err)
		}
	}
	return &mqttconn.DisconnectedError{Code: d.ReasonCode, Reason: join(names[d.ReasonCode], d.Properties.ReasonString)}
}

func (v5) publishSize(m *Out) int { return packetSize(v5body(m)) }

func v5body(m *Out) int { return m.bodySize() + sizeBytes(len(m.Props)) + len(m.Props) }

func (v5) appendPublish(b []byte, m *Out) []byte {
	b = appendSize(appendPublish(b, m, v5body(m)), len(m.Props))
	b = append(b, m.Props...)
	return append(b, m.Payload...)
}

// Headers under which the properties of MQTT 5 that are no user properties stand. The source writes them, the sink reads them.
const (
	HeaderContentType     = "mqtt.content-type"
	HeaderResponseTopic   = "mqtt.response-topic"
	HeaderCorrelationData = "mqtt.correlation-data"
)

// headersOf reads the properties of a message. Of a user property that is there twice the last counts.
func headersOf(props []byte) (map[string]string, error) {
	var p packets.Properties
	if err := p.Unpack(bytes.NewBuffer(props), packets.PUBLISH); err != nil {
		return nil, err
	}
	if len(p.User) == 0 && p.ContentType == "" && p.ResponseTopic == "" && len(p.CorrelationData) == 0 {
		return nil, nil
	}
	h := make(map[string]string, len(p.User))
	for _, u := range p.User {
		h[u.Key] = u.Value
	}
	for name, value := range map[string]string{
		HeaderContentType: p.ContentType, HeaderResponseTopic: p.ResponseTopic, HeaderCorrelationData: string(p.CorrelationData),
	} {
		if value != "" {
			h[name] = value
		}
	}
	return h, nil
}

// AppendHeader appends a header to the properties of a message: a user property, or what its name stands for.
func AppendHeader(b []byte, name, value string) []byte {
	switch name {
	case HeaderContentType:
		return appendString(append(b, packets.PropContentType), value)
	case HeaderResponseTopic:
		return appendString(append(b, packets.PropResponseTopic), value)
	case HeaderCorrelationData:
		return appendString(append(b, packets.PropCorrelationData), value)
	}
	return appendString(appendString(append(b, packets.PropUser), name), value)
}

// CheckProps tells whether encoded properties of a message are whole.
func CheckProps(props []byte) error {
	if len(props) == 0 {
		return nil
	}
	_, err := headersOf(append(appendSize(nil, len(props)), props...))
	return err
}

// AppendExpiry appends how many seconds a message is worth keeping.
func AppendExpiry(b []byte, seconds uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, packets.PropMessageExpiry), seconds)
}
