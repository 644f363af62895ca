package mqttclient

import (
	"bytes"
	"errors"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// v311 is MQTT 3.1.1.
type v311 struct{}

func (v311) connect(o Options) ([]byte, error) {
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", byte(V311)
	p.ClientIdentifier, p.CleanSession, p.Keepalive = o.ClientID, o.CleanStart, uint16(o.KeepAlive.Seconds())
	p.UsernameFlag, p.Username = o.Username != "", o.Username
	p.PasswordFlag, p.Password = o.Password != "", []byte(o.Password)
	if w := o.Will; w != nil {
		p.WillFlag, p.WillTopic, p.WillMessage, p.WillQos, p.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retained
	}
	return packed311(p)
}

func packed311(p packets.ControlPacket) ([]byte, error) {
	var b bytes.Buffer
	err := p.Write(&b)
	return b.Bytes(), err
}

func (v311) connack(c *Conn, body []byte) error {
	if len(body) < 2 {
		return errTruncated
	}
	if code := body[1]; code != packets.Accepted {
		if err := packets.ConnErrors[code]; err != nil {
			return err
		}
		return &mqttconn.RefusedError{Code: code}
	}
	c.SessionPresent = body[0]&1 != 0
	c.Limits = Limits{ReceiveMaximum: 65535, MaximumQoS: 2, Retain: true, SharedSubs: true}
	return nil
}

func (v311) message(c *Conn, p packet) (Message, error) {
	m, payload, err := cutMessage(c, p)
	m.Payload = payload
	return m, err
}

func (v311) answer(p packet) (Answer, error) {
	if len(p.body) < 2 {
		return Answer{}, errTruncated
	}
	return Answer{Kind: p.kind, ID: number(p.body)}, nil
}

func (v311) subscribe(id uint16, subs []Subscription) ([]byte, error) {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID = id
	for _, s := range subs {
		p.Topics, p.Qoss = append(p.Topics, s.Filter), append(p.Qoss, s.QoS)
	}
	return packed311(p)
}

func (v311) unsubscribe(id uint16, filter string) ([]byte, error) {
	p := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
	p.MessageID, p.Topics = id, []string{filter}
	return packed311(p)
}

func (v311) subscribed(c *Conn, p packet) error {
	if len(p.body) < 2 {
		return errTruncated
	}
	c.requests.answer(number(p.body), Granted{Codes: p.body[2:]})
	return nil
}

func (v311) disconnect(bool) []byte { return []byte{disconnect << 4, 0} }

func (v311) disconnected(packet) error {
	return errors.New("the broker sends a DISCONNECT, which MQTT 3.1.1 does not know")
}

func (v311) publishSize(m *Out) int { return packetSize(m.bodySize()) }

func (v311) appendPublish(b []byte, m *Out) []byte {
	return append(appendPublish(b, m, m.bodySize()), m.Payload...)
}
