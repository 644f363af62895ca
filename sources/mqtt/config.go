package mqtt

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// Defaults of a Config.
const (
	DefaultKeepAlive            = 30 * time.Second
	DefaultPingTimeout          = 10 * time.Second
	DefaultConnectTimeout       = 10 * time.Second
	DefaultMaxReconnectInterval = 10 * time.Second
	DefaultBuffer               = 4096
	// DefaultSessionExpiry is that of MQTT 5; in 3.1.1 it is the broker's.
	DefaultSessionExpiry = 24 * time.Hour
)

const (
	// maxClients bounds the connections of one source.
	maxClients = 256
	// maxWindow is the most messages that the protocol can have unacked: its ids have 16 bits and 0 is none.
	maxWindow = 65535
	// maxBuffer bounds the messages held per client.
	maxBuffer = 1 << 20
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

// Config of a source. Brokers and Topics are required; everything else has a default. Pointers tell "not set" from a zero:
// QoS: new(byte(0)).
type Config struct {
	// Brokers are the addresses of one broker or of the nodes of one cluster, tried in order: tcp://host:1883, ssl://host:8883,
	// ws://host/mqtt, wss://host/mqtt.
	Brokers []string `yaml:"brokers"`
	// Topics are the topic filters to subscribe to ("devices/+/telemetry", "#"). Filters that overlap may bring a message twice.
	Topics []string `yaml:"topics"`
	// Protocol is the version of MQTT, 3.1.1 or 5. Defaults to 3.1.1.
	Protocol Protocol `yaml:"protocol"`
	// QoS is the highest quality of service of the deliveries: 0, 1 or 2. A delivery has the lower one of this and the
	// publisher's. 0 is lost whenever something breaks; 2 costs twice as much as 1 and saves nothing here. Defaults to 1.
	QoS *byte `yaml:"qos"`

	// ClientID names the session that the broker keeps for this source, and the source's partition. It must stay the same over
	// restarts and differ between instances: two clients of one id throw each other out for ever. With several clients it is
	// followed by -0, -1 and so on. Defaults to millrace-<topology>-<node>, which is enough for one instance.
	ClientID string `yaml:"client_id"`
	// Clients is how many connections share the subscription, each a partition of its own: a broker gives one client a window of
	// unacked messages, and often one core. More than one needs a ShareGroup. The order of a device's messages across
	// clients is the broker's to keep (EMQX: hash_clientid or hash_topic). Defaults to 1.
	Clients int `yaml:"clients"`
	// ShareGroup makes the subscription a shared one, $share/<group>/<filter>: the broker spreads the messages over all clients of
	// the group, in this process and others. A member that is away may keep its share until it returns. Defaults to none.
	ShareGroup string `yaml:"share_group"`
	// CleanSession lets the broker forget everything when the connection ends: what was published in between, and what was
	// delivered and not acked, is lost. Defaults to false.
	CleanSession bool `yaml:"clean_session"`
	// SessionExpiry is how long the broker keeps the session and its messages while the source is away, in whole seconds; needs
	// MQTT 5, in 3.1.1 the broker decides. Defaults to 24 h.
	SessionExpiry time.Duration `yaml:"session_expiry"`

	// Username and Password are what the broker asks for. Default to none.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	// Credentials takes the place of Username and Password: it is asked before each attempt to connect, for tokens that expire.
	// Defaults to none.
	Credentials Credentials `yaml:"-"`
	// TLS holds the files for addresses with TLS; they are read again at each attempt to connect. Defaults to the system's
	// authorities.
	TLS TLS `yaml:"tls"`

	// KeepAlive is how long a silent connection is trusted before the client asks for a sign of life, in whole seconds.
	// Defaults to 30 s.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// PingTimeout is how long the client waits for that sign before it connects anew. Defaults to 10 s.
	PingTimeout time.Duration `yaml:"ping_timeout"`
	// ConnectTimeout bounds one attempt to connect. Defaults to 10 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// MaxReconnectInterval is the longest pause between two attempts; the first are shorter. Defaults to 10 s.
	MaxReconnectInterval time.Duration `yaml:"max_reconnect_interval"`

	// DropRetained drops what the broker had retained and sends with each new subscription: to a stream it is old news, and comes
	// again with each reconnect of a clean session. Dropped ones are counted (retained_dropped). Defaults to true.
	DropRetained *bool `yaml:"drop_retained"`
	// Meta gives each record a Meta with the topic as Key, the partition and the position, and with MQTT 5 the user properties as
	// Headers (of a name that is there twice the last); mqtt.content-type, mqtt.response-topic and mqtt.correlation-data are the
	// properties of that name. It costs an allocation per record, and more for Headers. Defaults to false.
	Meta bool `yaml:"meta"`
	// Window is how many messages the broker leaves unacked per client (mosquitto max_inflight_messages, EMQX max_inflight). It
	// decides how early an epoch ends, and so the throughput where the window is small. With MQTT 5 it is what the client asks of
	// the broker (Receive Maximum), 0 means half of Buffer. In 3.1.1 only the broker knows it: 0 means found out while running,
	// beginning with 20 at each connect. Defaults to 0.
	Window int `yaml:"window"`
	// Buffer is how many received messages wait per client to be read, at least twice the window. A full one holds the broker up,
	// and ends the connection for a while (the session stays) when it is not read for a third of KeepAlive. Defaults to 4,096,
	// or twice the Window if that is more.
	Buffer int `yaml:"buffer"`
}

// Validate tells all that is wrong with the configuration: field, value, and what is allowed.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("mqtt source: "+field+" "+format, args...))
	}
	c = c.withDefaults("", "")
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
	if len(c.Topics) == 0 {
		bad("topics", "is empty: use a topic filter such as devices/+/telemetry or #")
	}
	seen := map[string]bool{}
	for i, f := range c.Topics {
		if err := mqttconn.CheckFilter(f); err != nil {
			bad("topics["+strconv.Itoa(i)+"]", "%w", err)
		} else if seen[f] {
			bad("topics["+strconv.Itoa(i)+"]", "%q is there twice: remove one", f)
		}
		seen[f] = true
	}
	if *c.QoS > 2 {
		bad("qos", "is %d: allowed are 0, 1 and 2", *c.QoS)
	}
	if len(c.ClientID) > 65535-8 || strings.ContainsRune(c.ClientID, 0) {
		bad("client_id", "is longer than 65,527 bytes or holds a zero byte: use letters and digits")
	}
	if c.Clients < 1 || c.Clients > maxClients {
		bad("clients", "is %d: allowed are 1 to %d", c.Clients, maxClients)
	}
	if c.Clients > 1 && c.ShareGroup == "" {
		bad("share_group", "is empty with %d clients, each of which would get every message: name a group, or use one client", c.Clients)
	}
	if strings.ContainsAny(c.ShareGroup, "/+#\x00") {
		bad("share_group", "is %q: allowed is a name without / + #", c.ShareGroup)
	}
	if c.Password != "" && c.Username == "" {
		bad("username", "is empty and there is a password: the protocol sends a password only with a username")
	}
	if c.Credentials != nil && c.Username != "" {
		bad("username", "is set beside credentials: remove one")
	}
	switch e := c.SessionExpiry; {
	case e < 0 || e%time.Second != 0 || e/time.Second > math.MaxUint32:
		bad("session_expiry", "is %v: allowed are whole seconds, at most 4,294,967,295", e)
	case e > 0 && !c.v5():
		bad("session_expiry", "needs MQTT 5: set protocol to 5, or set the broker's expiry")
	case e > 0 && c.CleanSession:
		bad("session_expiry", "is set beside clean_session, which keeps nothing: remove one")
	}
	if !c.TLS.IsZero() && !secure {
		bad("tls", "is set and no broker address uses it: use ssl://, mqtts:// or wss://")
	}
	if _, err := c.TLS.Load(); err != nil {
		bad("", "%w", err)
	}
	if c.KeepAlive < time.Second || c.KeepAlive > 65535*time.Second || c.KeepAlive%time.Second != 0 {
		bad("keep_alive", "is %v: allowed are whole seconds from 1s to 65535s", c.KeepAlive)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"ping_timeout", c.PingTimeout}, {"connect_timeout", c.ConnectTimeout}, {"max_reconnect_interval", c.MaxReconnectInterval}} {
		if d.value < 10*time.Millisecond {
			bad(d.field, "is %v: allowed are 10ms and more", d.value)
		}
	}
	if c.Window < 0 || c.Window > maxWindow {
		bad("window", "is %d: allowed are 0 (found out) to %d", c.Window, maxWindow)
	}
	if least := max(2*c.Window, 2); c.Buffer < least || c.Buffer > maxBuffer {
		bad("buffer", "is %d: allowed are %d (twice the window) to %d", c.Buffer, least, maxBuffer)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults(topology, node string) Config {
	if c.QoS == nil {
		c.QoS = new(byte(1))
	}
	c.Protocol = c.Protocol.OrDefault()
	if c.DropRetained == nil {
		c.DropRetained = new(true)
	}
	if c.ClientID == "" {
		c.ClientID = "millrace-" + topology + "-" + node
	}
	setDefault(&c.Clients, 1)
	setDefault(&c.KeepAlive, DefaultKeepAlive)
	setDefault(&c.PingTimeout, DefaultPingTimeout)
	setDefault(&c.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&c.MaxReconnectInterval, DefaultMaxReconnectInterval)
	if c.v5() {
		if c.Window == 0 {
			c.Window = max(1, min(maxWindow, cmp.Or(c.Buffer, DefaultBuffer)/2))
		}
		if !c.CleanSession {
			setDefault(&c.SessionExpiry, DefaultSessionExpiry)
		}
	}
	setDefault(&c.Buffer, max(DefaultBuffer, 2*c.Window))
	return c
}

func (c Config) v5() bool { return c.Protocol == V5 }

func setDefault[V comparable](v *V, to V) {
	var zero V
	if *v == zero {
		*v = to
	}
}

// clientIDs are the ids of the connections.
func (c Config) clientIDs() []string {
	if c.Clients == 1 {
		return []string{c.ClientID}
	}
	ids := make([]string, c.Clients)
	for i := range ids {
		ids[i] = c.ClientID + "-" + strconv.Itoa(i)
	}
	return ids
}

// filters are the topic filters as the broker wants them.
func (c Config) filters() []string {
	f := make([]string, len(c.Topics))
	for i, topic := range c.Topics {
		if f[i] = topic; c.ShareGroup != "" {
			f[i] = "$share/" + c.ShareGroup + "/" + topic
		}
	}
	return f
}
