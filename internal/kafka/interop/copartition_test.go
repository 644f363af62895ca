package interop

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/gen"
)

// counter numbers the records of each device anew.
type counter struct{ seen flow.State[string, int] }

func (c *counter) Open(_ context.Context, rt flow.Runtime) error {
	return flow.OpenState(rt, "seen", &c.seen)
}

func (c *counter) Process(_ context.Context, key string, r *flow.Record[reading], out *flow.Output[reading]) error {
	n := c.seen.Get(key)
	*out.Next(r.Time, r.Meta) = reading{r.Value.device, *n}
	*n++
	return nil
}

// State stays with the partition that its keys are in: the sink's partitions are the units of the topology that reads them.
func TestStateIsKeptByPartition(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka))
	counted := b.topic + "-counted"
	b.create(counted)
	const each = 20_000
	store := flowtest.NewStore()
	for round := range 2 {
		writer, end := start(t, func(top *flow.Topology) {
			flow.To(flow.From(top, "in", gen.Source(numbered, gen.Count(each))), "out", b.sink(b.topic, ""))
		}, "writer")
		<-writer.Done()
		require.NoError(t, writer.Err())
		end()
		running, end := start(t, func(top *flow.Topology) {
			byDevice := flow.KeyBy(flow.From(top, "in", b.source(b.topic)), key, flow.CoPartitioned())
			flow.To(flow.ApplyKeyed[string, reading, reading](byDevice, "count", func() *counter { return &counter{} }), "out", b.sink(counted, ""))
		}, "count", flow.WithStore(store))
		require.Eventually(t, func() bool { return written(running) == each && running.Unacked() == 0 }, 30*time.Second, 10*time.Millisecond, "round %d", round)
		require.NoError(t, running.Stop(context.Background()))
		end()
	}
	out := remember()
	_, end := start(t, func(top *flow.Topology) { flow.To(flow.From(top, "in", b.source(counted)), "out", out) }, "reader")
	out.until(t, 2*each)
	end()
	require.Empty(t, out.wrong, "counted on over a restart, once each")
	require.Equal(t, 2*each, out.count())
}
