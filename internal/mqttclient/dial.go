package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// Target is where to connect.
type Target struct {
	// Brokers are tried in order.
	Brokers []mqttconn.Broker
	TLS     mqttconn.TLS
	// Timeout bounds the attempt at each broker.
	Timeout time.Duration
}

// Dial connects to the first broker that lets the client in. The files of the TLS configuration are read anew. The error holds
// those of all brokers.
func Dial(ctx context.Context, t Target, opts Options, h Handler) (*Conn, error) {
	conf, err := t.TLS.Load()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, b := range t.Brokers {
		attempt := func() (*Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.Timeout)
			defer cancel()
			nc, err := mqttconn.Dial(ctx, b.URL, conf, t.Timeout, paho.ClientOptions{})
			if err != nil {
				return nil, err
			}
			return Connect(ctx, nc, opts, h)
		}
		c, err := attempt()
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(t.Brokers) > 1 {
			err = fmt.Errorf("%s: %w", b, err)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
