// Package kafka is what Kafka's source and sink share: connecting, asking brokers, and what their errors mean.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Connection says how to reach a cluster and how to be accepted by it: the part that the configurations of source and sink share.
type Connection struct {
	// Brokers are host:port of the cluster; one that answers is enough to find the others. Required.
	Brokers []string `yaml:"brokers"`
	// ClientID is what the brokers see in logs and quotas. Defaults to millrace.
	ClientID string `yaml:"client_id"`
	// Timeout bounds connecting and each request, beyond what the broker itself may take for it. Defaults to 5 s.
	Timeout time.Duration `yaml:"timeout"`
	// SASL authenticates. Defaults to none.
	SASL SASL `yaml:"sasl"`
	// TLS encrypts all connections. Defaults to none.
	TLS TLS `yaml:"tls"`
	// Dial opens a connection to a broker at host:port, for tunnels and proxies; TLS comes on top of it. Defaults to TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `yaml:"-"`
}

// WithDefaults fills in what is not set.
func (c Connection) WithDefaults() Connection {
	if c.ClientID == "" {
		c.ClientID = "millrace"
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// Backoff between tries: 50 ms, doubled up to 1 s, which bounds how late anything notices that its broker is back.
const (
	MinBackoff = 50 * time.Millisecond
	MaxBackoff = time.Second
)

// Check lists all that is wrong with the connection.
func (c Connection) Check() error {
	_, err := c.options()
	return err
}

func (c Connection) options() ([]kgo.Opt, error) {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka: brokers is empty: name one broker at least, as host:port"))
	}
	for _, b := range c.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("kafka: broker %q is not of the form host:port", b))
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("kafka: timeout is %s: want a positive duration", c.Timeout))
	}
	t, err := c.TLS.Config()
	errs = append(errs, err)
	m, err := c.SASL.mechanism()
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.DialTimeout(c.Timeout),
		kgo.RequestTimeoutOverhead(c.Timeout),
		kgo.RetryTimeout(c.Timeout),
		kgo.RetryBackoffFn(pause),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.DisableClientMetrics(),
	}
	switch {
	case c.Dial != nil:
		opts = append(opts, kgo.Dialer(c.dialer(t)))
	case t != nil:
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

// dialer is Dial with TLS on top.
func (c Connection) dialer(t *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	if t == nil {
		return c.Dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		own := t.Clone()
		if own.ServerName == "" {
			own.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(conn, own)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	}
}

// Open makes a client. It does not wait for the network.
func Open(c Connection, more ...kgo.Opt) (*kgo.Client, error) {
	opts, err := c.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return client, nil
}

// pause is the client's own backoff, with jitter.
func pause(fails int) time.Duration {
	d := min(MinBackoff<<min(fails, 10), MaxBackoff)
	return d*4/5 + rand.N(d/5)
}

// bounded gives a request of our own its limit.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %s", ErrNoAnswer, limit))
}

// ErrNoAnswer says that no broker answered in time.
var ErrNoAnswer = errors.New("kafka: no answer")
