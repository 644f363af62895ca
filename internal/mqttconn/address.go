package mqttconn

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// schemes says for each scheme of a broker's URL whether it means TLS, and its default port.
var schemes = map[string]struct {
	tls  bool
	port string
}{
	"tcp": {false, "1883"}, "mqtt": {false, "1883"},
	"ssl": {true, "8883"}, "tls": {true, "8883"}, "mqtts": {true, "8883"}, "mqtt+ssl": {true, "8883"}, "tcps": {true, "8883"},
	"ws": {false, "80"}, "wss": {true, "443"},
}

// Broker is a broker's address.
type Broker struct {
	URL *url.URL
	TLS bool
}

// String is the address without anything secret.
func (b Broker) String() string { return b.URL.Redacted() }

// ParseBroker reads "scheme://host:port", or "host" and "host:port" for plain TCP. Missing ports are the usual ones.
func ParseBroker(s string) (Broker, error) {
	if s == "" {
		return Broker{}, fmt.Errorf("is empty: use for instance tcp://127.0.0.1:1883")
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "tcp://" + s
	}
	u, err := url.Parse(full)
	if err != nil {
		return Broker{}, fmt.Errorf("is no URL: use for instance tcp://127.0.0.1:1883")
	}
	scheme, ok := schemes[u.Scheme]
	if !ok {
		return Broker{}, fmt.Errorf("%s has the scheme %q: use tcp, mqtt, ssl, tls, mqtts, ws or wss", u.Redacted(), u.Scheme)
	}
	if u.User != nil {
		return Broker{}, fmt.Errorf("%s carries a user: use username and password instead", u.Redacted())
	}
	if u.Hostname() == "" {
		return Broker{}, fmt.Errorf("%s names no host: use for instance tcp://127.0.0.1:1883", u.Redacted())
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), scheme.port)
	}
	return Broker{URL: u, TLS: scheme.tls}, nil
}

// CheckFilter tells what is wrong with a topic filter, in words that follow its name; nil if nothing is.
func CheckFilter(f string) error {
	switch {
	case f == "":
		return fmt.Errorf("is empty: use a topic filter such as devices/+/telemetry or #")
	case len(f) > 65535:
		return fmt.Errorf("has %d bytes: at most 65,535 are allowed", len(f))
	case strings.ContainsRune(f, 0):
		return fmt.Errorf("%q holds a zero byte", f)
	case strings.HasPrefix(f, "$share/"), strings.HasPrefix(f, "$queue/"):
		return fmt.Errorf("%q is a shared subscription: give the filter alone, and the group as share_group", f)
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.ContainsRune(l, '#') && (l != "#" || i != len(levels)-1) {
			return fmt.Errorf("%q: # must be the whole last level", f)
		}
		if strings.ContainsRune(l, '+') && l != "+" {
			return fmt.Errorf("%q: + must be a whole level", f)
		}
	}
	return nil
}
