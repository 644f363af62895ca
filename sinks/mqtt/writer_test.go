package mqtt

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// offline is a sink whose writers work and which has no broker.
func offline[T any, Topic string | func(T) string](t *testing.T, cfg Config, topic Topic, c interface {
	Append([]byte, *T) ([]byte, error)
	Decode([]byte, *T) error
	ID() string
}, opts ...Option[T],
) *writer[T] {
	s := Sink(cfg, topic, c, opts...).(*sink[T])
	s.cfg = s.cfg.withDefaults(flow.SinkRuntime{})
	s.life = t.Context()
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	return w.(*writer[T])
}

func TestRefusedTopics(t *testing.T) {
	w := offline(t, Config{}, func(s string) string { return s }, text{})
	for topic, want := range map[string]string{
		"":                         "is empty",
		"a/+/b":                    "holds + or #",
		"#":                        "holds + or #",
		"$share/g/t":               "the broker's own",
		"$SYS/x":                   "the broker's own",
		"a\x00b":                   "U+0000",
		"a\nb":                     "U+000A",
		"a\u0085b":                 "U+0085",
		"a\uffffb":                 "U+FFFF",
		"a\U0001fffeb":             "U+1FFFE",
		"a\ufdd0b":                 "U+FDD0",
		"a\xffb":                   "is no UTF-8",
		strings.Repeat("x", 65536): "has 65536 bytes",
	} {
		err := w.Write(t.Context(), records("good", topic, "good"))
		var r *flow.RecordError
		require.ErrorAs(t, err, &r, topic)
		require.Equal(t, 1, r.Index)
		require.ErrorContains(t, r, want)
	}
	require.NoError(t, w.Write(t.Context(), records("a", "/", "ü/\ufffd/日本", "$mine", strings.Repeat("x", 65535))))
	b, err := w.Seal(t.Context())
	require.NoError(t, err)
	require.Equal(t, 13+5, b[0].Rows(), "those before a refused one are taken")
}

func TestRefusedHeaders(t *testing.T) {
	w := offline(t, Config{Protocol: V5}, "t", text{})
	for _, h := range []map[string]string{
		{"a": "line\nbreak"}, {"a\x01": "b"}, {"a": "\xff"}, {"a": strings.Repeat("x", 65536)},
		{"mqtt.response-topic": "answers/#"}, {"mqtt.correlation-data": strings.Repeat("x", 65536)},
	} {
		batch := records("good", "bad")
		batch[1].Meta = &flow.Meta{Headers: h}
		err := w.Write(t.Context(), batch)
		var r *flow.RecordError
		require.ErrorAs(t, err, &r)
		require.Equal(t, 1, r.Index)
		require.ErrorContains(t, r, `message for topic "t": header "`)
		require.Less(t, len(err.Error()), 300)
	}
	// MQTT 3.1.1 has nowhere to put them.
	w = offline(t, Config{}, "t", text{})
	batch := records("good")
	batch[0].Meta = &flow.Meta{Headers: map[string]string{"a": "line\nbreak"}}
	require.NoError(t, w.Write(t.Context(), batch))
}

func TestTooLargeForTheConfiguration(t *testing.T) {
	w := offline(t, Config{MaxPacketBytes: 200}, "devices", text{})
	err := w.Write(t.Context(), records(strings.Repeat("x", 180), strings.Repeat("x", 181)))
	var r *flow.RecordError
	require.ErrorAs(t, err, &r)
	require.Equal(t, 1, r.Index)
	require.ErrorContains(t, r, `message of 201 bytes for topic "devices", more than max_packet_bytes, 200`)
}

func TestEpochIsAskedForOnce(t *testing.T) {
	w := offline(t, Config{MaxPacketBytes: 8 << 20}, "t", text{})
	asked := 0
	w.sink.rt.RequestEpoch = func() { asked++ }
	large := strings.Repeat("x", 6<<20)
	for range 4 {
		require.NoError(t, w.Write(t.Context(), records(large)))
	}
	require.Equal(t, 1, asked)
}

func TestWriteDoesNotAllocatePerRecord(t *testing.T) {
	w := offline(t, Config{}, topicOf3, readings{})
	batch := records(numbersOf("17", 1, 1000)...)
	n := testing.AllocsPerRun(20, func() {
		require.NoError(t, w.Write(t.Context(), batch))
		_, err := w.Seal(t.Context())
		require.NoError(t, err)
	})
	require.Less(t, n, 40.0, "for 1000 records")
}

func topicOf3(reading) string { return "devices/17" }

func TestDamagedBlocks(t *testing.T) {
	w := offline(t, Config{Protocol: V5}, "t", text{}, UserProperties(func(s string) map[string]string { return map[string]string{"a": s} }))
	require.NoError(t, w.Write(t.Context(), records("1", "2")))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, blocks[0].Rows())
	require.Greater(t, blocks[0].Bytes(), 30)
	data, err := blocks[0].AppendBinary(nil)
	require.NoError(t, err)
	for cut := range data {
		_, err := decodeBlock(data[:cut])
		require.ErrorIs(t, err, errBlock, "cut at %d", cut)
	}
	_, err = decodeBlock(append(slices.Clone(data), 0))
	require.Error(t, err)
	_, err = decodeBlock(data)
	require.NoError(t, err)

	o := open(t, Sink(newFake(t, nil).config(), "t", text{}))
	_, err = o.sink.Deliver(t.Context(), []flow.Block{foreign{}})
	require.ErrorContains(t, err, "not a block of this sink")
	_, err = Sink(Config{}, "t", text{}).Deliver(t.Context(), nil)
	require.ErrorContains(t, err, "before Open")
	_, err = Sink(Config{}, "t", text{}).Writer(t.Context(), flow.TaskInfo{})
	require.ErrorContains(t, err, "before Open")
}

type foreign struct{ flow.Block }

func FuzzDecodeBlock(f *testing.F) {
	b := &block{}
	b.add(7, true, "t", nil, []byte("payload"))
	data, err := b.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBlock(data)
		if err != nil {
			if !errors.Is(err, errBlock) {
				t.Fatal(err)
			}
			return
		}
		for row := range b.Rows() {
			b.(*block).entry(row)
		}
	})
}

// Ids go round, and an answer finds its message wherever the oldest is.
func TestFlights(t *testing.T) {
	f := newFlights(3)
	b := &block{state: make([]rowState, 1)}
	f.base, f.next = 65533, 65533
	var got []uint16
	for range 4 {
		got = append(got, f.add(b, 0))
	}
	require.Equal(t, []uint16{65534, 65535, 1, 2}, got)
	require.Nil(t, f.find(0))
	require.Nil(t, f.find(3))
	require.Nil(t, f.find(65533))
	f.land(f.find(1))
	require.Equal(t, 4, f.span())
	require.Nil(t, f.find(1))
	f.land(f.find(65534))
	require.Equal(t, 3, f.span())
	f.land(f.find(65535))
	require.Equal(t, 1, f.span())
	require.NotNil(t, f.find(2))
	require.Equal(t, 1, f.clear())
	require.Zero(t, f.span())
	require.Nil(t, f.find(2))
}
