package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func numbered(from, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(from + i)
	}
	return s
}

// A subscriber that gives n+1 before n is acked: order is that of arrival, acks come with the epoch, and in order.
func TestOrderAndAcks(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	sub.numbers(0, 5000)
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, out, nil)
	eventually(t, func() bool { return r.Running().Unacked() == 5000 }, "all is read without an ack")
	require.Zero(t, sub.ackedCount())
	require.Empty(t, out.Values())
	r.Epoch()
	eventually(t, func() bool { return sub.ackedCount() == 5000 }, "all is acked")
	require.Equal(t, numbered(0, 5000), out.Values())
	require.EqualValues(t, 5000, counter(r, "received"))
	r.Stop()
	acked, nacked, subs, closed := sub.counts()
	require.Equal(t, []int{5000, 0, 1, 0}, []int{acked, nacked, subs, closed})
}

// What is not acked when the process dies comes again, and the numbers of a partition go on rising.
func TestCrash(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	var seen []flow.Position
	r := flowtest.New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("copying", opts...)
		in := flow.From(top, "in", Source(sub, "topic", text, Meta()))
		flow.To(flow.Apply(in, "look", func() flow.Operator[string, string] {
			return flow.OperatorFunc[string, string](func(_ context.Context, r *flow.Record[string], o *flow.Output[string]) error {
				seen = append(seen, r.Meta.Position)
				o.Emit(*r)
				return nil
			})
		}), "out", out)
		return top
	})
	r.Restart()
	sub.numbers(0, 10)
	eventually(t, func() bool { return r.Running().Unacked() == 10 }, "it reads")
	r.Epoch()
	eventually(t, func() bool { return sub.ackedCount() == 10 }, "it acks")
	sub.numbers(10, 5)
	eventually(t, func() bool { return r.Running().Unacked() == 5 }, "it reads on")
	r.Kill()
	sub.numbers(15, 5)
	r.Restart()
	eventually(t, func() bool { return r.Running().Unacked() == 10 }, "it reads the rest")
	r.Epoch()
	r.Stop()
	require.Equal(t, numbered(0, 20), out.Values())
	require.Equal(t, 20, sub.ackedCount())
	require.Equal(t, int64(11), seen[15].Offset, "behind what was committed")
	require.Equal(t, int64(20), seen[len(seen)-1].Offset)
}

// At a stop what was accepted is committed and acked, and the rest is left alone, not nacked.
func TestStopInTheMiddle(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	sub.numbers(0, 10_000)
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, out, nil)
	eventually(t, func() bool { return r.Running().Unacked() > 100 }, "it reads")
	r.Stop()
	n := len(out.Values())
	require.Less(t, n, 10_000)
	require.Equal(t, numbered(0, n), out.Values())
	acked, nacked, _, _ := sub.counts()
	require.Equal(t, n, acked, "the subscriber has seen every ack before its subscription ended")
	require.Zero(t, nacked)

	again := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, out, nil)
	eventually(t, func() bool {
		return again.Running().Unacked() > 0 && len(out.Values())+int(again.Running().Unacked()) >= n+1000
	}, "it goes on")
	again.Stop()
	require.Equal(t, numbered(0, len(out.Values())), out.Values(), "nothing is lost and nothing comes twice")
}

func TestWhatCannotBeDecoded(t *testing.T) {
	sub, out, letters := newScripted(), flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
	sub.feed("a", "bad", "b", "worse", "c")
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, out, letters)
	eventually(t, func() bool { return r.Running().Unacked() == 5 }, "it reads")
	r.Epoch()
	eventually(t, func() bool { return sub.ackedCount() == 5 }, "it acks them, too")
	require.Equal(t, []string{"a", "b", "c"}, out.Values())
	require.Len(t, letters.Values(), 2)
	require.Equal(t, "bad", string(letters.Values()[0].Raw))
	require.Contains(t, letters.Values()[0].Cause, `watermill source: decode message "bad" of topic "topic": not a text`)
	require.Contains(t, letters.Values()[1].Cause, "panic: cannot bear it")
	_, nacked, _, _ := sub.counts()
	require.Zero(t, nacked)
}

// What cannot be decoded takes nothing of its batch with it.
func TestBatchWithWhatCannotBeDecoded(t *testing.T) {
	src := Source(newScripted(), "topic", text).(*source[string])
	require.NoError(t, src.Open(t.Context(), flow.SourceRuntime{}))
	box := newInbox(only)
	for _, p := range []string{"a", "bad", "b", "worse", "c", "worse", "worse"} {
		box.put(arrival{message.NewMessage(p, message.Payload(p)), time.Time{}})
	}
	var got []string
	rejected := 0
	in := &intake{emitted: make(chan flow.Position, 1), idle: make(chan bool, 1), windows: make(chan int, 1),
		records: func(r flow.Record[string]) { got = append(got, r.Value) }, rejected: func() { rejected++ }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r := &reader[string]{hub: src.hub, box: box, decode: text}
	go func() { done <- r.run(ctx, flow.Position{}, flow.NewIntake[string](in)) }()
	require.Equal(t, flow.Position{Offset: 7}, <-in.emitted)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Equal(t, []string{"a", "b", "c"}, got)
	require.Equal(t, 4, rejected)
}

// A subscription that ends by itself is made again, for as long as it takes.
func TestResubscribes(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, out, nil)
	sub.numbers(0, 10)
	eventually(t, func() bool { return r.Running().Unacked() == 10 }, "it reads")
	r.Epoch()
	eventually(t, func() bool { return sub.ackedCount() == 10 }, "it acks")
	sub.end(errDown)
	sub.numbers(10, 10)
	eventually(t, func() bool {
		r.Clock.Advance(time.Second)
		_, _, subs, _ := sub.counts()
		return subs > 5
	}, "it tries on")
	sub.allow()
	eventually(t, func() bool {
		r.Clock.Advance(time.Second)
		return r.Running().Unacked() == 10
	}, "it reads on")
	require.Greater(t, counter(r, "resubscribed"), int64(3))
	r.Epoch()
	require.Equal(t, numbered(0, 20), out.Values())
	r.Stop()
}

func TestSubscriptionThatIsRefusedForGood(t *testing.T) {
	sub := newScripted()
	sub.refuse = errDown
	permanent := Permanent(func(err error) bool { return errors.Is(err, errDown) })
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text, permanent) }, flowtest.NewSink[string](), nil)
	require.ErrorContains(t, r.Wait(), `node "in": watermill source: subscribe to "topic": the broker is down`)
}

// A subscriber whose Subscribe hangs does not hold the stop up beyond its grace.
func TestSubscribeThatHangs(t *testing.T) {
	sub := &hanging{Subscriber: newScripted(), free: make(chan struct{})}
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text) }, flowtest.NewSink[string](), nil)
	<-sub.entered()
	r.Stop()
}

type hanging struct {
	message.Subscriber
	free chan struct{}
}

func (h *hanging) entered() <-chan struct{} { return h.free }

func (h *hanging) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	close(h.free)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestPartitions(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	parity := Partition(func(m *message.Message) string { return fmt.Sprint(len(m.Payload)) }, "1")
	r := flowtest.New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("copying", opts...)
		in := flow.From(top, "in", Source(sub, "topic", text, parity, Meta()))
		flow.To(flow.Apply(in, "where", func() flow.Operator[string, string] {
			return flow.OperatorFunc[string, string](func(_ context.Context, r *flow.Record[string], o *flow.Output[string]) error {
				*o.Next(r.Time, r.Meta) = r.Meta.Partition + ":" + r.Value
				return nil
			})
		}), "out", out)
		return top
	})
	r.Restart()
	sub.numbers(0, 200)
	eventually(t, func() bool { return r.Running().Unacked() == 200 }, "it reads")
	r.Epoch()
	r.Stop()
	for part, want := range map[string][]string{"1": numbered(0, 10), "2": numbered(10, 90), "3": numbered(100, 100)} {
		got := slices.DeleteFunc(slices.Clone(out.Values()), func(s string) bool { return !strings.HasPrefix(s, part+":") })
		for i := range want {
			want[i] = part + ":" + want[i]
		}
		require.Equal(t, want, got, "in order within the partition")
	}
	require.Equal(t, 200, sub.ackedCount())
}

func TestMetaAndTime(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	at := time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)
	stored := StoredAt(func(m *message.Message) time.Time {
		if m.UUID == "b" {
			return at
		}
		return time.Time{}
	})
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text, Meta(), stored) }, out, nil)
	sub.feed("a", "b")
	eventually(t, func() bool { return r.Running().Unacked() == 2 }, "it reads")
	r.Epoch()
	recs := out.Records()
	require.Equal(t, flow.TimestampOf(r.Clock.Now()), recs[0].Time)
	require.Equal(t, flow.TimestampOf(at), recs[1].Time)
	require.Equal(t, &flow.Meta{Headers: map[string]string{"from": "b"}, Key: "topic", Partition: "0", Position: flow.Position{Offset: 2}}, recs[1].Meta)
	r.Stop()
}

func TestMaxUnacked(t *testing.T) {
	sub, out := newScripted(), flowtest.NewSink[string]()
	sub.numbers(0, 100)
	r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text, MaxUnacked(30)) }, out, nil)
	for n := 30; n <= 90; n += 30 {
		eventually(t, func() bool { return r.Running().Unacked() == 30 }, "it reads as much as it may")
		r.Epoch()
		require.Len(t, out.Values(), n)
	}
	eventually(t, func() bool { return r.Running().Unacked() == 10 }, "it reads the rest")
	r.Stop()
	require.Equal(t, numbered(0, 100), out.Values())
}

func TestOwnSubscriber(t *testing.T) {
	for _, own := range []bool{false, true} {
		sub := newScripted()
		var opts []Option
		if own {
			opts = append(opts, OwnSubscriber())
		}
		r := copying(t, func() flow.Source[string] { return Source(sub, "topic", text, opts...) }, flowtest.NewSink[string](), nil)
		eventually(t, func() bool { _, _, subs, _ := sub.counts(); return subs == 1 }, "it subscribes")
		r.Stop()
		_, _, _, closed := sub.counts()
		require.Equal(t, own, closed == 1)
	}
	sub := newScripted()
	require.NoError(t, KeepOpen(sub).Close())
	_, _, _, closed := sub.counts()
	require.Zero(t, closed)
}

func TestWrongArguments(t *testing.T) {
	src := Source[string](nil, "topic", nil, Window(-2), MaxUnacked(0))
	err := src.Open(t.Context(), flow.SourceRuntime{})
	for _, want := range []string{"the subscriber is nil", "decode is nil: use for instance watermill.Payload", "Window(-2)", "MaxUnacked(0)"} {
		require.ErrorContains(t, err, want)
	}
}

// Idle only while there is a subscription, nothing is held and nothing is held back.
func TestIdleness(t *testing.T) {
	sub := newScripted()
	src := Source(sub, "topic", text, MaxUnacked(2))
	require.NoError(t, src.Open(t.Context(), flow.SourceRuntime{}))
	ctx, cancel := context.WithCancel(t.Context())
	in := &intake{emitted: make(chan flow.Position, 10), idle: make(chan bool, 10), windows: make(chan int, 10)}
	parts := adder(make(chan flow.Partition, 1))
	done := make(chan error, 2)
	go func() { done <- src.Run(ctx, parts) }()
	p := <-parts
	go func() { done <- src.Read(ctx, p, flow.Position{Offset: 7}, flow.NewIntake[string](in)) }()
	for !<-in.idle { // once it is subscribed
	}
	require.Equal(t, 1, <-in.windows)
	sub.feed("a", "b", "c", "d")
	var at flow.Position
	for at.Offset < 9 {
		at = <-in.emitted
	}
	require.False(t, <-in.idle, "what is held may hold the next back")
	require.NoError(t, src.Commit(ctx, p, at))
	for at.Offset < 11 {
		at = <-in.emitted
	}
	require.NoError(t, src.Commit(ctx, p, at))
	for !<-in.idle {
	}
	eventually(t, func() bool { return sub.ackedCount() == 4 }, "all is acked")
	sub.end(errDown)
	require.False(t, <-in.idle, "no subscription")
	cancel()
	require.ErrorIs(t, errors.Join(<-done, <-done), context.Canceled)
	require.NoError(t, src.Close(t.Context()))
}

type adder chan flow.Partition

func (a adder) Add(ps ...flow.Partition) error {
	for _, p := range ps {
		a <- p
	}
	return nil
}
func (adder) Remove(context.Context, ...flow.Partition) error { return nil }

type intake struct {
	emitted chan flow.Position
	idle    chan bool
	windows chan int
	// Called for what comes, where set.
	records  func(flow.Record[string])
	rejected func()
}

func (i *intake) Buffer() []flow.Record[string] { return make([]flow.Record[string], 0, flow.MaxBatch) }
func (i *intake) Emit(_ context.Context, batch []flow.Record[string], at flow.Position) error {
	if i.records != nil {
		for _, r := range batch {
			i.records(r)
		}
	}
	i.emitted <- at
	return nil
}
func (i *intake) Reject([]byte, error, flow.Position) {
	if i.rejected != nil {
		i.rejected()
	}
}
func (i *intake) Reference(time.Time) {}
func (i *intake) Idle()               { i.idle <- true }
func (i *intake) Busy()               { i.idle <- false }
func (i *intake) Lag(int64)           {}
func (i *intake) Window(n int) {
	select {
	case i.windows <- n:
	default:
	}
}
