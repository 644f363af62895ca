package mqttconn

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/net/proxy"
)

// Dial opens the network connection to a broker, TLS handshake included, and gives up when ctx ends: what the client's own
// dialer cannot. A proxy named by all_proxy is used, as the client does.
func Dial(ctx context.Context, u *url.URL, conf *tls.Config, timeout time.Duration, o paho.ClientOptions) (net.Conn, error) {
	switch u.Scheme {
	case "ws", "wss":
		return paho.NewWebsocket(u.String(), conf, timeout, o.HTTPHeaders, o.WebsocketOptions)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := proxy.Dial(ctx, "tcp", u.Host)
	if err != nil || !schemes[u.Scheme].tls {
		return conn, err
	}
	conf = conf.Clone()
	if conf.ServerName == "" {
		conf.ServerName = u.Hostname()
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}
