package watermill

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// feeding are messages with positions, as a source with Meta gives them.
func feeding(src *flowtest.Source[*message.Message], from, n int) {
	for i := from; i < from+n; i++ {
		src.FeedRecords("0", flow.Record[*message.Message]{
			Value: message.NewMessage("", message.Payload(fmt.Sprint(i))),
			Meta:  &flow.Meta{Headers: map[string]string{"_watermill_message_uuid": fmt.Sprint("id-", i), "n": fmt.Sprint(i)}, Position: flow.Position{Offset: int64(i + 1)}},
		})
	}
}

func subscriberOf(t *testing.T, src flow.Source[*message.Message]) *Subscriber {
	sub, err := NewSubscriber(SubscriberConfig{Source: func(string) flow.Source[*message.Message] { return src }, NackPause: time.Millisecond})
	require.NoError(t, err)
	return sub
}

func TestSubscriberGivesOneAtATime(t *testing.T) {
	src := flowtest.NewSource[*message.Message]()
	sub := subscriberOf(t, src)
	out, err := sub.Subscribe(t.Context(), "topic")
	require.NoError(t, err)
	feeding(src, 0, 10)
	for i := range 6 {
		m := <-out
		require.Equal(t, fmt.Sprint("id-", i), m.UUID)
		require.Equal(t, message.Metadata{"n": fmt.Sprint(i)}, m.Metadata)
		select {
		case <-out:
			t.Fatal("the next before the ack")
		default:
		}
		require.NoError(t, m.Context().Err())
		if i == 3 {
			m.Nack()
			again := <-out
			require.Equal(t, m.UUID, again.UUID, "before all others")
			m = again
		}
		m.Ack()
		<-m.Context().Done()
		eventually(t, func() bool { return src.Committed("0") == int64(i+1) }, "told within a batch")
	}
	m := <-out
	require.NoError(t, sub.Close())
	require.Error(t, m.Context().Err())
	_, open := <-out
	require.False(t, open)
	require.EqualValues(t, 6, src.Committed("0"))
	_, err = sub.Subscribe(t.Context(), "topic")
	require.ErrorContains(t, err, "closed")

	// The next subscriber goes on behind the last ack.
	sub = subscriberOf(t, src)
	ctx, cancel := context.WithCancel(t.Context())
	out, err = sub.Subscribe(ctx, "topic")
	require.NoError(t, err)
	m = <-out
	require.Equal(t, "id-6", m.UUID)
	m.Ack()
	cancel()
	for range out { // until it is closed
	}
	require.NoError(t, sub.Close())
	require.GreaterOrEqual(t, src.Committed("0"), int64(6))
}

// unsteady is a source that fails in every way that passes.
type unsteady struct {
	flow.Source[*message.Message]
	fails map[string]int
}

func (u *unsteady) fail(what string) error {
	if u.fails[what] > 0 {
		u.fails[what]--
		return flow.Transient(errDown)
	}
	return nil
}

func (u *unsteady) Run(ctx context.Context, a flow.Assign) error {
	return errors.Join(u.fail("run"), func() error {
		if u.fails["run"] > 0 {
			return nil
		}
		return u.Source.Run(ctx, a)
	}())
}

func (u *unsteady) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[*message.Message]) error {
	if err := u.fail("read"); err != nil {
		return err
	}
	return u.Source.Read(ctx, p, from, in)
}

func (u *unsteady) Commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	if err := u.fail("commit"); err != nil {
		return err
	}
	return u.Source.Commit(ctx, p, upTo)
}

func TestSubscriberTriesOn(t *testing.T) {
	src := flowtest.NewSource[*message.Message]()
	sub := subscriberOf(t, &unsteady{src, map[string]int{"read": 2, "commit": 2}})
	out, err := sub.Subscribe(t.Context(), "topic")
	require.NoError(t, err)
	feeding(src, 0, 3)
	for range 3 {
		(<-out).Ack()
	}
	eventually(t, func() bool { return src.Committed("0") == 3 }, "told in the end")
	require.NoError(t, sub.Close())
}

func TestSubscriberWithoutASource(t *testing.T) {
	_, err := NewSubscriber(SubscriberConfig{})
	require.ErrorContains(t, err, "Source is nil")
	sub := subscriberOf(t, Source[*message.Message](nil, "topic", nil))
	_, err = sub.Subscribe(t.Context(), "topic")
	require.ErrorContains(t, err, "the subscriber is nil")
	require.NoError(t, sub.SubscribeInitialize("topic"))
	require.NoError(t, sub.Close())
}

// A subscription whose source ends for good is closed.
func TestSubscriberWhoseSourceFails(t *testing.T) {
	inner := newScripted()
	inner.refuse = errDown
	src := Source(inner, "topic", func(m *message.Message) (*message.Message, error) { return m, nil }, Permanent(func(error) bool { return true }))
	sub := subscriberOf(t, src)
	out, err := sub.Subscribe(t.Context(), "topic")
	require.NoError(t, err)
	_, open := <-out
	require.False(t, open)
	require.NoError(t, sub.Close())
}

func TestCodecs(t *testing.T) {
	m := message.NewMessage("id", message.Payload("payload"))
	m.Metadata.Set("k", "v")
	b, err := Envelope().Append(nil, &m)
	require.NoError(t, err)
	require.JSONEq(t, `{"uuid":"id","metadata":{"k":"v"},"payload":"cGF5bG9hZA=="}`, string(b))
	var back *message.Message
	require.NoError(t, Envelope().Decode(b, &back))
	require.True(t, m.Equals(back))
	require.ErrorContains(t, Envelope().Decode([]byte("{"), &back), "not an envelope")

	b, err = Plain().Append(nil, &m)
	require.NoError(t, err)
	require.NoError(t, Plain().Decode(b, &back))
	require.Equal(t, "payload", string(back.Payload))
	require.NotEmpty(t, back.UUID)
	m = nil
	_, err = Plain().Append(nil, &m)
	require.Error(t, err)
	_, err = Envelope().Append(nil, &m)
	require.Error(t, err)
}
