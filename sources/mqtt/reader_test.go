package mqtt

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// touchy is a codec that panics on "panic" and fails on "bad".
type touchy struct{}

func (touchy) Decode(data []byte, v *string) error {
	switch string(data) {
	case "panic":
		panic("asked for")
	case "bad":
		return errors.New("asked for")
	}
	*v = string(data)
	return nil
}
func (touchy) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }
func (touchy) ID() string                                 { return "touchy" }

// gathered keeps what a reader emits and rejects.
type gathered struct {
	flow.IntakeBackend[string]
	values, rejected []string
}

func (g *gathered) Buffer() []flow.Record[string] { return nil }

func (g *gathered) Emit(_ context.Context, batch []flow.Record[string], _ flow.Position) error {
	for _, r := range batch {
		g.values = append(g.values, r.Value)
	}
	return nil
}

func (g *gathered) Reject(raw []byte, _ error, _ flow.Position) {
	g.rejected = append(g.rejected, string(raw))
}

func (g *gathered) Reference(time.Time) {}

// A codec's panic takes nothing of its batch with it.
func TestPanicOfTheCodecKeepsTheRestOfTheBatch(t *testing.T) {
	r := &reader[string]{codec: touchy{}, count: func(string, int64) {}}
	for i, payload := range []string{"a", "panic", "b", "bad", "c", "panic"} {
		r.held = append(r.held, &message{seq: int64(i + 1), payload: []byte(payload)})
	}
	g := &gathered{}
	require.NoError(t, r.emit(context.Background(), flow.NewIntake[string](g)))
	require.Equal(t, []string{"a", "b", "c"}, g.values)
	require.Equal(t, []string{"panic", "bad", "panic"}, g.rejected)
}
