package kafka

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestContract(t *testing.T) {
	set := services.Need(t, services.Kafka)
	flowtest.SourceContract(t, flowtest.SourceSetup[padded]{
		New: func(t testing.TB) flowtest.SourceCase[padded] { return sourceCase(t, set) },
		ID: func(p padded) int {
			id, err := p.id()
			require.NoError(t, err)
			return id
		},
		Remembers: true,
		Wrong: map[string]func() flow.Source[padded]{
			"group": func() flow.Source[padded] {
				return Source(Config{Connection: Connection{Brokers: []string{"a:1"}}, Topics: []string{"t"}}, padding{})
			},
			"topics": func() flow.Source[padded] {
				return Source(Config{Connection: Connection{Brokers: []string{"a:1"}}, Group: "g"}, padding{})
			},
		},
	})
}

func sourceCase(t testing.TB, set *services.Set) flowtest.SourceCase[padded] {
	b := setup(t, set, 2)
	proxy := faults.New(t, set.Kafka())
	addr := proxy.Addr()
	cfg := b.config()
	cfg.Timeout = time.Second
	// Brokers say where they are: a proxy must be on the way to whatever they say.
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	publish := func(t testing.TB, ids []int, pad string) {
		recs := make([]*kgo.Record, len(ids))
		for i, id := range ids {
			recs[i] = &kgo.Record{Topic: b.topic, Partition: int32(id % 2), Value: fmt.Append(nil, id, " ", pad)}
		}
		require.NoError(t, b.client.ProduceSync(t.Context(), recs...).FirstErr())
	}
	return flowtest.SourceCase[padded]{
		Source:  func() flow.Source[padded] { return Source(cfg, padding{}) },
		Publish: func(t testing.TB, ids []int) { publish(t, ids, "") },
		Poison: func(t testing.TB, payload []byte) {
			require.NoError(t, b.client.ProduceSync(t.Context(), &kgo.Record{Topic: b.topic, Value: payload}).FirstErr())
		},
		Large:   func(t testing.TB, ids []int, bytes int) { publish(t, ids, strings.Repeat("x", bytes)) },
		Network: proxy,
	}
}

// padded is a payload that begins with an id; it points into what was fetched.
type padded struct{ payload []byte }

type padding struct{}

func (padding) ID() string { return "padding" }

func (padding) AliasesPayload() bool { return true }

func (padding) Append(b []byte, v *padded) ([]byte, error) { return append(b, v.payload...), nil }

func (padding) Decode(b []byte, v *padded) error {
	v.payload = b
	_, err := v.id()
	return err
}

func (p padded) id() (id int, err error) {
	digits, _, _ := bytes.Cut(p.payload, []byte(" "))
	err = number{}.Decode(digits, &id)
	return id, err
}
