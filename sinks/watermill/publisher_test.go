package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func some(from, n int) []*message.Message {
	ms := make([]*message.Message, n)
	for i := range ms {
		ms[i] = message.NewMessage(fmt.Sprint("id-", from+i), message.Payload(fmt.Sprint(from+i)))
		ms[i].Metadata.Set("k", "v")
	}
	return ms
}

func TestPublisher(t *testing.T) {
	sinks := map[string]*flowtest.Sink[*message.Message]{}
	p, err := NewPublisher(PublisherConfig{Sink: func(topic string) flow.Sink[*message.Message] {
		sinks[topic] = flowtest.NewSink[*message.Message]()
		return sinks[topic]
	}})
	require.NoError(t, err)
	require.NoError(t, p.Publish("a", some(0, 3000)...))
	require.NoError(t, p.Publish("b"))
	require.NoError(t, p.Publish("b", some(0, 1)...))
	for i, r := range sinks["a"].Records() {
		require.Equal(t, fmt.Sprint("id-", i), r.Value.UUID)
		require.Equal(t, map[string]string{"k": "v", "_watermill_message_uuid": r.Value.UUID}, r.Meta.Headers)
	}
	require.Len(t, sinks["a"].Values(), 3000)
	require.Len(t, sinks["b"].Values(), 1)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Publish("a", some(0, 1)...), "closed")

	_, err = NewPublisher(PublisherConfig{})
	require.ErrorContains(t, err, "Sink is nil")
}

// picky is a sink that opens at the second try, cannot encode 7, whose system refuses 13, and which is down when told so.
type picky struct {
	*flowtest.Sink[*message.Message]
	opened, delivered int
	down              error
}

func (p *picky) Open(context.Context, flow.SinkRuntime) error {
	if p.opened++; p.opened == 1 {
		return flow.Transient(errDown)
	}
	return nil
}

func (p *picky) Writer(ctx context.Context, task flow.TaskInfo) (flow.SinkWriter[*message.Message], error) {
	w, err := p.Sink.Writer(ctx, task)
	return &pickyWriter{w}, err
}

type pickyWriter struct {
	flow.SinkWriter[*message.Message]
}

func (w *pickyWriter) Write(ctx context.Context, batch []flow.Record[*message.Message]) error {
	for i := range batch {
		if string(batch[i].Value.Payload) == "7" {
			return errors.Join(w.SinkWriter.Write(ctx, batch[:i]), &flow.RecordError{Index: i, Err: errors.New("no sevens")})
		}
	}
	return w.SinkWriter.Write(ctx, batch)
}

func (p *picky) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if p.down != nil {
		return nil, p.down
	}
	before := len(p.Values())
	p.delivered++
	if _, err := p.Sink.Deliver(ctx, blocks); err != nil {
		return nil, err
	}
	var rejects []flow.Reject
	at := before
	for b, block := range blocks {
		for row := range block.Rows() {
			if string(p.Values()[at].Payload) == "13" {
				rejects = append(rejects, flow.Reject{Block: b, Row: row, Err: errors.New("unlucky")})
			}
			at++
		}
	}
	return rejects, nil
}

func TestPublisherErrors(t *testing.T) {
	s := &picky{Sink: flowtest.NewSink[*message.Message]()}
	p, err := NewPublisher(PublisherConfig{Sink: func(string) flow.Sink[*message.Message] { return s }})
	require.NoError(t, err)
	require.ErrorIs(t, p.Publish("a", some(0, 1)...), errDown, "nothing is tried again here")
	require.NoError(t, p.Publish("a", some(0, 1)...))
	require.ErrorContains(t, p.Publish("a", some(5, 5)...), "no sevens")
	require.Len(t, s.Values(), 1, "a call is written whole or not at all")
	require.ErrorContains(t, p.Publish("a", some(13, 1)...), "unlucky")
	s.down = errDown
	require.ErrorIs(t, p.Publish("a", some(20, 1)...), errDown)
	s.down = nil

	// Many callers at once: each gets its own result.
	var all sync.WaitGroup
	errs := make([]error, 100)
	for i := range errs {
		all.Go(func() { errs[i] = p.Publish("a", some(i, 1)...) })
	}
	all.Wait()
	for i, err := range errs {
		require.Equal(t, i == 7 || i == 13, err != nil, "%d: %v", i, err)
	}
	require.NoError(t, p.Close())
}
