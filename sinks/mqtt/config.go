package mqtt

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// Defaults of a Config.
const (
	DefaultKeepAlive            = 30 * time.Second
	DefaultPingTimeout          = 10 * time.Second
	DefaultConnectTimeout       = 10 * time.Second
	DefaultWriteTimeout         = 10 * time.Second
	DefaultAckTimeout           = 30 * time.Second
	DefaultMaxReconnectInterval = 10 * time.Second
	DefaultInflight             = 1000
	DefaultMaxPacketBytes       = 1 << 20
	DefaultSessionExpiry        = time.Hour
)

const (
	// maxInflight: ids of messages have 16 bits and 0 is none.
	maxInflight = 65535
	// maxPacket is the protocol's own limit.
	maxPacket = 268_435_455
)

// Secret is a password. It prints, logs and encodes as "[redacted]".
type Secret = mqttconn.Secret

// TLS says how to trust the broker and how to be trusted by it; see its fields.
type TLS = mqttconn.TLS

// Credentials gives username and password for one attempt to connect, for tokens that expire.
type Credentials = mqttconn.Credentials

// Protocol is a version of MQTT.
type Protocol = mqttconn.Protocol

// Versions of MQTT.
const (
	V311 = mqttconn.V311
	V5   = mqttconn.V5
)

// Will is a message that the broker publishes when this sink's connection ends without a goodbye: when its process dies or the
// network does.
type Will struct {
	// Topic is where it goes. Required where there is a will; empty means that there is none.
	Topic string `yaml:"topic"`
	// Payload is its text. Defaults to an empty one.
	Payload string `yaml:"payload"`
	// QoS is its quality of service: 0, 1 or 2. Defaults to 0.
	QoS byte `yaml:"qos"`
	// Retained lets the broker keep it for subscribers that come later. Defaults to false.
	Retained bool `yaml:"retained"`
	// Delay is how long the broker waits for the sink to come back first, in whole seconds; needs MQTT 5. Defaults to 0.
	Delay time.Duration `yaml:"delay"`
}

// Config of a sink. Brokers is required; everything else has a default. Pointers tell "not set" from a zero: QoS: new(byte(0)).
type Config struct {
	// Brokers are the addresses of one broker or of the nodes of one cluster, tried in order: tcp://host:1883, ssl://host:8883,
	// ws://host/mqtt, wss://host/mqtt.
	Brokers []string `yaml:"brokers"`
	// Protocol is the version of MQTT, 3.1.1 or 5. Defaults to 3.1.1.
	Protocol Protocol `yaml:"protocol"`
	// QoS is the quality of service of the messages. 0: sent once, lost with a broken connection. 1: sent until the broker has it,
	// perhaps twice. 2: as 1, and not twice over a broken connection as long as this process lives and the broker keeps the
	// session. Defaults to 1.
	QoS *byte `yaml:"qos"`
	// Retained lets the broker keep the last message of each topic for subscribers that come later; an empty payload deletes it.
	// Defaults to false.
	Retained bool `yaml:"retained"`
	// MessageExpiry is how long the broker tries to deliver a message, in whole seconds; needs MQTT 5. 0 means for ever. Defaults
	// to 0.
	MessageExpiry time.Duration `yaml:"message_expiry"`

	// ClientID is the name under which the broker knows this sink. Two clients of one id throw each other out for ever. Defaults to
	// millrace-<topology>-<node>-<a part of the store's id>, which differs between instances.
	ClientID string `yaml:"client_id"`
	// Username and Password are what the broker asks for. Default to none.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	// Credentials takes the place of Username and Password: it is asked before each attempt to connect, for tokens that expire.
	// Defaults to none.
	Credentials Credentials `yaml:"-"`
	// TLS holds the files for addresses with TLS; they are read again at each attempt to connect. Defaults to the system's
	// authorities.
	TLS TLS `yaml:"tls"`
	// Will is what the broker publishes when the sink is gone without a goodbye. Defaults to none.
	Will Will `yaml:"will"`

	// Inflight is how many messages of QoS 1 and 2 may be unconfirmed at once; MQTT 5 brokers may ask for fewer. Defaults to 1,000.
	Inflight int `yaml:"inflight"`
	// MaxPacketBytes is the largest packet (topic, properties and payload) that the broker takes; a larger one goes to the dead
	// letters. A broker of MQTT 3.1.1 ends the connection over a packet that is too large and does not say so: set it to the
	// broker's limit (EMQX mqtt.max_packet_size, mosquitto max_packet_size). A broker of MQTT 5 tells its limit, the lower one
	// counts. Defaults to 1 MiB.
	MaxPacketBytes int `yaml:"max_packet_bytes"`
	// SessionExpiry is how long the broker remembers a broken connection, in whole seconds; needs MQTT 5, and matters for QoS 2
	// alone. Defaults to 1 h.
	SessionExpiry time.Duration `yaml:"session_expiry"`

	// KeepAlive is how long a silent connection is trusted before the client asks for a sign of life, in whole seconds.
	// Defaults to 30 s.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// PingTimeout is how long the client waits for that sign before it connects anew. Defaults to 10 s.
	PingTimeout time.Duration `yaml:"ping_timeout"`
	// ConnectTimeout bounds one attempt to connect to one broker. Defaults to 10 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// WriteTimeout is how long the network may take nothing before the connection is given up. What was under way is sent again.
	// Defaults to 10 s.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// AckTimeout is how long the broker may confirm nothing while messages wait for it, before the connection is given up and they
	// are sent again. Defaults to 30 s.
	AckTimeout time.Duration `yaml:"ack_timeout"`
	// MaxReconnectInterval is the longest pause between two attempts; the first are shorter. Defaults to 10 s.
	MaxReconnectInterval time.Duration `yaml:"max_reconnect_interval"`
}

// Validate tells all that is wrong with the configuration: field, value, and what is allowed.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("mqtt sink: "+field+" "+format, args...))
	}
	c = c.withDefaults(flow.SinkRuntime{})
	if len(c.Brokers) == 0 {
		bad("brokers", "is empty: use for instance tcp://127.0.0.1:1883")
	}
	secure := false
	for i, b := range c.Brokers {
		a, err := mqttconn.ParseBroker(b)
		if err != nil {
			bad("brokers["+strconv.Itoa(i)+"]", "%w", err)
		}
		secure = secure || a.TLS
	}
	if err := c.Protocol.Check(); err != nil {
		bad("protocol", "%w", err)
	}
	if *c.QoS > 2 {
		bad("qos", "is %d: allowed are 0, 1 and 2", *c.QoS)
	}
	if len(c.ClientID) > 65535 || strings.ContainsRune(c.ClientID, 0) {
		bad("client_id", "is longer than 65,535 bytes or holds a zero byte: use letters and digits")
	}
	if c.Password != "" && c.Username == "" {
		bad("username", "is empty and there is a password: the protocol sends a password only with a username")
	}
	if c.Credentials != nil && c.Username != "" {
		bad("username", "is set beside credentials: remove one")
	}
	if !c.TLS.IsZero() && !secure {
		bad("tls", "is set and no broker address uses it: use ssl://, mqtts:// or wss://")
	}
	if _, err := c.TLS.Load(); err != nil {
		bad("", "%w", err)
	}
	c.checkWill(bad)
	c.checkNumbers(bad)
	return errors.Join(errs...)
}

func (c Config) checkWill(bad func(field, format string, args ...any)) {
	if c.Will.Topic == "" {
		if c.Will != (Will{}) {
			bad("will.topic", "is empty and there is a will: name the topic")
		}
		return
	}
	if err := checkTopic(c.Will.Topic); err != nil {
		bad("will.topic", "%w", err)
	}
	if c.Will.QoS > 2 {
		bad("will.qos", "is %d: allowed are 0, 1 and 2", c.Will.QoS)
	}
	if len(c.Will.Payload) > math.MaxUint16 {
		bad("will.payload", "has %d bytes: at most 65,535 are allowed", len(c.Will.Payload))
	}
}

func (c Config) checkNumbers(bad func(field, format string, args ...any)) {
	if c.KeepAlive < time.Second || c.KeepAlive > 65535*time.Second || c.KeepAlive%time.Second != 0 {
		bad("keep_alive", "is %v: allowed are whole seconds from 1s to 65535s", c.KeepAlive)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"ping_timeout", c.PingTimeout}, {"connect_timeout", c.ConnectTimeout}, {"write_timeout", c.WriteTimeout},
		{"ack_timeout", c.AckTimeout}, {"max_reconnect_interval", c.MaxReconnectInterval},
	} {
		if d.value < 10*time.Millisecond {
			bad(d.field, "is %v: allowed are 10ms and more", d.value)
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"message_expiry", c.MessageExpiry}, {"session_expiry", c.SessionExpiry}, {"will.delay", c.Will.Delay}} {
		switch {
		case d.value < 0 || d.value%time.Second != 0 || d.value/time.Second > math.MaxUint32:
			bad(d.field, "is %v: allowed are whole seconds, at most 4,294,967,295", d.value)
		case d.value > 0 && !c.v5():
			bad(d.field, "needs MQTT 5: set protocol to 5")
		}
	}
	if c.Inflight < 1 || c.Inflight > maxInflight {
		bad("inflight", "is %d: allowed are 1 to %d", c.Inflight, maxInflight)
	}
	if c.MaxPacketBytes < 128 || c.MaxPacketBytes > maxPacket {
		bad("max_packet_bytes", "is %d: allowed are 128 to %d", c.MaxPacketBytes, maxPacket)
	}
}

func (c Config) v5() bool { return c.Protocol == V5 }

// keepsSession tells whether the broker has to know what was in flight on an earlier connection.
func (c Config) keepsSession() bool { return *c.QoS == 2 }

func (c Config) withDefaults(rt flow.SinkRuntime) Config {
	if c.QoS == nil {
		c.QoS = new(byte(1))
	}
	c.Protocol = c.Protocol.OrDefault()
	if c.ClientID == "" {
		c.ClientID = "millrace-" + rt.Topology + "-" + rt.Node
		if rt.StoreID != "" {
			c.ClientID += "-" + rt.StoreID[:min(8, len(rt.StoreID))]
		}
	}
	if c.v5() && c.keepsSession() {
		setDefault(&c.SessionExpiry, DefaultSessionExpiry)
	}
	setDefault(&c.KeepAlive, DefaultKeepAlive)
	setDefault(&c.PingTimeout, DefaultPingTimeout)
	setDefault(&c.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&c.WriteTimeout, DefaultWriteTimeout)
	setDefault(&c.AckTimeout, DefaultAckTimeout)
	setDefault(&c.MaxReconnectInterval, DefaultMaxReconnectInterval)
	setDefault(&c.Inflight, DefaultInflight)
	setDefault(&c.MaxPacketBytes, DefaultMaxPacketBytes)
	return c
}

func setDefault[V comparable](v *V, to V) {
	var zero V
	if *v == zero {
		*v = to
	}
}
