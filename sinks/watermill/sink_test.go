package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errDown    = errors.New("the broker is down")
	errTooLong = errors.New("too long")
)

// scripted is a publisher under a test's control. It publishes a call's messages one by one, up to the first that fails.
type scripted struct {
	mu     sync.Mutex
	topics []string
	got    []*message.Message
	calls  []int
	fail   func(m *message.Message) error
	closed int
}

func (p *scripted) Publish(topic string, ms ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, len(ms))
	for _, m := range ms {
		if p.fail != nil {
			if err := p.fail(m); err != nil {
				return err
			}
		}
		p.topics, p.got = append(p.topics, topic), append(p.got, m)
		m.Metadata.Set("touched", "by the publisher")
	}
	return nil
}

func (p *scripted) Close() error { p.closed++; return nil }

func (p *scripted) payloads() (s []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.got {
		s = append(s, string(m.Payload))
	}
	return s
}

func (p *scripted) ids() (s []string) {
	for _, m := range p.got {
		s = append(s, m.UUID)
	}
	return s
}

func words(n int) []flow.Record[string] {
	rs := make([]flow.Record[string], n)
	for i := range rs {
		rs[i] = flow.Record[string]{Value: fmt.Sprint(i), Time: flow.Timestamp(i)}
	}
	return rs
}

func plain(v string) (*message.Message, error) { return Payload(codec.String())(v) }

// written writes records through a sink's writer and seals them.
func written(t *testing.T, s flow.Sink[string], rs []flow.Record[string]) []flow.Block {
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), rs))
	bs, err := w.Seal(t.Context())
	require.NoError(t, err)
	require.Len(t, bs, 1)
	require.Equal(t, len(rs), bs[0].Rows())
	return bs
}

func opened(t *testing.T, s flow.Sink[string]) flow.Sink[string] {
	require.NoError(t, s.Open(t.Context(), flow.SinkRuntime{}))
	return s
}

func TestPublishesInBatches(t *testing.T) {
	pub := &scripted{}
	s := opened(t, Sink(pub, "words", plain, Batch(40)))
	rejects, err := s.Deliver(t.Context(), written(t, s, words(100)))
	require.NoError(t, err)
	require.Empty(t, rejects)
	require.Equal(t, []int{40, 40, 20}, pub.calls)
	for i, p := range pub.payloads() {
		require.Equal(t, fmt.Sprint(i), p)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(pub.ids()))), 100, "each has its own UUID")
	require.NoError(t, s.Close(t.Context()))
	require.Zero(t, pub.closed, "others may use it")

	s = opened(t, Sink(pub, "words", plain, OwnPublisher()))
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, 1, pub.closed)
	require.NoError(t, KeepOpen(pub).Close())
	require.Equal(t, 1, pub.closed)
}

// After a failure what was published stays published, and what may have been is published again under the same UUID, one by one.
func TestRetry(t *testing.T) {
	down := 0
	pub := &scripted{}
	pub.fail = func(m *message.Message) error {
		if string(m.Payload) == "57" && down < 3 {
			down++
			return errDown
		}
		return nil
	}
	s := opened(t, Sink(pub, "words", plain, Batch(40)))
	bs := written(t, s, words(100))
	for range 3 {
		_, err := s.Deliver(t.Context(), bs)
		require.ErrorIs(t, err, errDown)
		require.True(t, flow.IsTransient(err))
		require.ErrorContains(t, err, `watermill sink: publish`)
	}
	_, err := s.Deliver(t.Context(), bs)
	require.NoError(t, err)
	counts, ids := map[string]int{}, map[string]map[string]bool{}
	for _, m := range pub.got {
		counts[string(m.Payload)]++
		if ids[string(m.Payload)] == nil {
			ids[string(m.Payload)] = map[string]bool{}
		}
		ids[string(m.Payload)][m.UUID] = true
		require.Len(t, m.Metadata, 1, "a repeated message is a new one")
	}
	require.Len(t, counts, 100)
	for i := range 100 {
		want := 1
		if i >= 40 && i < 57 { // before the one that failed, in its call
			want = 2
		}
		require.Equal(t, want, counts[fmt.Sprint(i)], i)
		require.Len(t, ids[fmt.Sprint(i)], 1, "the UUID stays")
	}
	_, err = s.Deliver(t.Context(), bs)
	require.NoError(t, err)
	require.Len(t, pub.got, 117, "a block that is done is done")
}

func TestPermanentErrors(t *testing.T) {
	pub := &scripted{fail: func(m *message.Message) error {
		if string(m.Payload) == "3" || string(m.Payload) == "7" {
			return errTooLong
		}
		return nil
	}}
	s := opened(t, Sink(pub, "words", plain, ID(func(v string) string { return "id-" + v }),
		Permanent(func(err error) bool { return errors.Is(err, errTooLong) })))
	rejects, err := s.Deliver(t.Context(), written(t, s, words(10)))
	require.NoError(t, err)
	require.Len(t, rejects, 2)
	require.Equal(t, flow.Reject{Block: 0, Row: 3, Time: 3, Err: rejects[0].Err, Record: []byte(`{"topic":"words","uuid":"id-3","payload":"Mw=="}`)}, rejects[0])
	require.ErrorContains(t, rejects[0].Err, `watermill sink: publish to "words": too long`)
	require.Equal(t, 7, rejects[1].Row)
	got := slices.Compact(slices.Sorted(slices.Values(pub.payloads())))
	require.Equal(t, []string{"0", "1", "2", "4", "5", "6", "8", "9"}, got)
}

func TestPanicOfThePublisherStops(t *testing.T) {
	pub := &scripted{fail: func(*message.Message) error { panic("nil map") }}
	s := opened(t, Sink(pub, "words", plain))
	_, err := s.Deliver(t.Context(), written(t, s, words(1)))
	require.ErrorIs(t, err, flow.ErrPanic)
	require.False(t, flow.IsTransient(err))
}

func TestWhatAMessageGets(t *testing.T) {
	pub := &scripted{}
	s := opened(t, Sink(pub, "words", func(v string) (*message.Message, error) {
		m := message.NewMessage("own", message.Payload(v))
		m.Metadata.Set("name", "word")
		return m, nil
	},
		Key(func(v string) string { return "k" + v }),
		Topic(func(v string) string {
			if v == "1" {
				return "ones"
			}
			return ""
		}),
		Metadata(func(v string) map[string]string { return map[string]string{"value": v} })))
	_, err := s.Deliver(t.Context(), written(t, s, words(3)))
	require.NoError(t, err)
	require.Equal(t, []string{"words", "ones", "words"}, pub.topics)
	require.Equal(t, []string{"own", "own", "own"}, pub.ids())
	require.Equal(t, message.Metadata{"name": "word", "value": "2", MetadataKey: "k2", "touched": "by the publisher"}, pub.got[2].Metadata)
}

func TestRecordsThatAreRefused(t *testing.T) {
	for name, s := range map[string]flow.Sink[string]{
		"not today":    Sink(&scripted{}, "t", func(string) (*message.Message, error) { return nil, errors.New("not today") }),
		"no message":   Sink(&scripted{}, "t", func(string) (*message.Message, error) { return nil, nil }),
		"id is empty":  Sink(&scripted{}, "t", plain, ID(func(string) string { return "" })),
		"key is empty": Sink(&scripted{}, "t", plain, Key(func(string) string { return "" })),
		"has no topic": Sink(&scripted{}, "", plain, Topic(func(string) string { return "" })),
	} {
		w, err := opened(t, s).Writer(t.Context(), flow.TaskInfo{})
		require.NoError(t, err)
		err = w.Write(t.Context(), words(2))
		var re *flow.RecordError
		require.ErrorAs(t, err, &re, name)
		require.Zero(t, re.Index)
		require.ErrorContains(t, err, name)
	}
}

func TestWrongArguments(t *testing.T) {
	err := Sink[string](nil, "", nil, Batch(0), Parallel(0)).Open(t.Context(), flow.SinkRuntime{})
	for _, want := range []string{"the publisher is nil", "encode is nil: use for instance watermill.Payload", "the topic is empty", "Batch(0)", "Parallel(0)"} {
		require.ErrorContains(t, err, want)
	}
}

// Calls go on beside each other, and messages of one key keep their order.
func TestParallel(t *testing.T) {
	pub := &slow{scripted: scripted{}}
	s := opened(t, Sink(pub, "words", plain, Parallel(8), Batch(1), Key(func(v string) string { return v[:1] })))
	_, err := s.Deliver(t.Context(), written(t, s, words(300)))
	require.NoError(t, err)
	require.Greater(t, pub.most, 1)
	last := map[byte]int{}
	for _, m := range pub.got {
		var n int
		_, err := fmt.Sscan(string(m.Payload), &n)
		require.NoError(t, err)
		k := m.Payload[0]
		require.GreaterOrEqual(t, n, last[k])
		last[k] = n
	}
	require.Len(t, pub.got, 300)
}

// slow counts how many calls are under way.
type slow struct {
	scripted
	mu        sync.Mutex
	now, most int
}

func (p *slow) Publish(topic string, ms ...*message.Message) error {
	p.mu.Lock()
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	timer := time.NewTimer(100 * time.Microsecond)
	<-timer.C
	p.mu.Lock()
	p.now--
	p.mu.Unlock()
	return p.scripted.Publish(topic, ms...)
}

// A publisher that hangs is left behind when the topology gives up, and waited for at Close.
func TestPublisherThatHangs(t *testing.T) {
	free := make(chan struct{})
	pub := &scripted{fail: func(*message.Message) error { <-free; return nil }}
	s := opened(t, Sink(pub, "words", plain))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Deliver(ctx, written(t, s, words(1)))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Close(ctx), context.Canceled)
	close(free)
	require.NoError(t, s.Close(t.Context()))
}

func TestBlockEncoding(t *testing.T) {
	pub := &scripted{}
	s := opened(t, Sink(pub, "words", plain, Key(func(v string) string { return v })))
	bs := written(t, s, words(50))
	data, err := bs[0].AppendBinary(nil)
	require.NoError(t, err)
	again, err := s.DecodeBlock(data)
	require.NoError(t, err)
	require.Equal(t, bs[0].Rows(), again.Rows())
	require.Equal(t, bs[0].Bytes(), again.Bytes())
	_, err = s.Deliver(t.Context(), append(bs, again))
	require.NoError(t, err)
	require.Equal(t, pub.ids()[:50], pub.ids()[50:], "the UUIDs are in it")
	for i := range data {
		if b, err := s.DecodeBlock(data[:i]); err == nil {
			t.Fatalf("cut at %d it decodes to %d rows", i, b.Rows())
		}
	}
}

func FuzzDecodeBlock(f *testing.F) {
	b := &block{rows: []row{{topic: "t", id: "i", metadata: map[string]string{"k": "v"}, payload: []byte("p"), time: 5, lane: 3}}}
	data, _ := b.AppendBinary(nil)
	f.Add(data)
	f.Add([]byte{blockFormat, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeBlock(data)
		if err != nil {
			return
		}
		back, err := d.AppendBinary(nil)
		require.NoError(t, err)
		again, err := decodeBlock(back)
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}

// Through the engine: a broker that is down for a while delays, and loses and doubles nothing.
func TestInATopology(t *testing.T) {
	src := flowtest.NewSource[string]()
	down := 20
	pub := &scripted{}
	pub.fail = func(*message.Message) error {
		if down > 0 {
			down--
			return errDown
		}
		return nil
	}
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("words", opts...)
		flow.To(flow.From(top, "in", src), "out", Sink(pub, "words", plain, ID(func(v string) string { return v })))
		return top
	}, src)
	for i := range 250 {
		src.Feed(fmt.Sprint(i))
	}
	r.Settle()
	done := make(chan error, 1)
	go func() { done <- r.Running().Epoch(t.Context()) }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			require.NoError(t, err)
			waiting = false
		default:
			r.Clock.Advance(100 * time.Millisecond)
		}
	}
	require.Len(t, pub.got, 250)
	require.EqualValues(t, 250, src.Committed("0"))
	r.Stop()
}
