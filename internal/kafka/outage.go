package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
)

// Outages logs and counts each outage of a broker once.
type Outages struct {
	Clock flow.Clock
	Log   *slog.Logger
	Count func(name string, n int64)

	mu   sync.Mutex
	down map[int32]time.Time
}

// Down says that a broker did not answer; it tells whether that is new.
func (o *Outages) Down(broker int32, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.down[broker]; known {
		return false
	}
	if o.down == nil {
		o.down = map[int32]time.Time{}
	}
	o.down[broker] = o.Clock.Now()
	o.Count("outages", 1)
	o.Log.Warn("kafka: broker does not answer; its partitions go on when it is back", "broker", name(broker), "err", err)
	return true
}

// Up says that a broker answered.
func (o *Outages) Up(broker int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if since, was := o.down[broker]; was {
		delete(o.down, broker)
		o.Log.Info("kafka: broker answers again", "broker", name(broker), "after", o.Clock.Now().Sub(since))
	}
}

func name(broker int32) string {
	if broker < 0 {
		return "seed"
	}
	return fmt.Sprint(broker)
}

// ProduceHooks make a client that writes tell of outages, since it retries by itself and says nothing.
func (o *Outages) ProduceHooks() kgo.Hook { return produceHooks{o} }

type produceHooks struct{ o *Outages }

const produceKey = 0

// OnBrokerConnect is the client's hook.
func (h produceHooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil && meta.NodeID >= 0 && !errors.Is(err, kgo.ErrClientClosed) {
		h.o.Down(meta.NodeID, err)
	}
}

// OnBrokerE2E is the client's hook.
func (h produceHooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key != produceKey {
		return
	}
	err := e2e.Err()
	if errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	if err != nil {
		h.o.Down(meta.NodeID, err)
		h.o.Count("retries", 1)
		return
	}
	h.o.Up(meta.NodeID)
}
