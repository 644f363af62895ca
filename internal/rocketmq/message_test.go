package rocketmq

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
)

// stored is a message in the layout of the store.
type stored struct {
	body, props, topic string
	offset             int64
	sysFlag            int32
	queue              int
	v2                 bool
}

func (s stored) append(b []byte) []byte {
	be := binary.BigEndian
	at := len(b)
	magic := uint32(magicV1)
	if s.v2 {
		magic = magicV2
	}
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 0), magic), 0)
	b = be.AppendUint32(be.AppendUint32(b, uint32(s.queue)), 5)
	b = be.AppendUint64(be.AppendUint64(b, uint64(s.offset)), 123)
	b = be.AppendUint64(be.AppendUint32(b, uint32(s.sysFlag)), 1_700_000_000_001)
	host := func(bit int32) {
		n := 4
		if s.sysFlag&bit != 0 {
			n = 16
		}
		b = append(b, bytes.Repeat([]byte{127}, n)...)
		b = be.AppendUint32(b, 10911)
	}
	host(flagBornHostV6)
	b = be.AppendUint64(b, 1_700_000_000_002)
	host(flagStoreHostV6)
	b = be.AppendUint64(be.AppendUint32(b, 3), 4)
	b = append(be.AppendUint32(b, uint32(len(s.body))), s.body...)
	if s.v2 {
		b = be.AppendUint16(b, uint16(len(s.topic)))
	} else {
		b = append(b, byte(len(s.topic)))
	}
	b = append(b, s.topic...)
	b = append(be.AppendUint16(b, uint16(len(s.props))), s.props...)
	be.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func TestMessagesAgreeWithTheClientLibrary(t *testing.T) {
	var data []byte
	var in []stored
	for i, flag := range []int32{0, flagBornHostV6, flagStoreHostV6, flagBornHostV6 | flagStoreHostV6, 0} {
		s := stored{
			body: fmt.Sprintf("body %d", i), topic: "topic", offset: int64(1000 + i), sysFlag: flag, queue: i,
			props: fmt.Sprintf("SHARDING_KEY\x01dev-%d\x02traceparent\x0100-äöü\x02UNIQ_KEY\x01u\x02", i),
		}
		in = append(in, s)
		data = s.append(data)
	}
	want := primitive.DecodeMessage(bytes.Clone(data))
	require.Equal(t, len(in), len(want))
	msgs := NewMessages(data)
	for _, w := range want {
		var m Message
		require.True(t, msgs.More())
		require.NoError(t, msgs.Next(&m))
		require.Equal(t, w.Body, m.Body)
		require.Equal(t, w.QueueOffset, m.Offset)
		require.Equal(t, w.StoreTimestamp, m.Stored)
		require.Equal(t, w.BornTimestamp, m.Born)
		require.Equal(t, w.Flag, m.Flag)
		require.Equal(t, w.Queue.QueueId, m.QueueID)
		require.Equal(t, w.GetProperties(), m.Properties.Map())
		require.Equal(t, w.GetShardingKey(), string(m.Properties.Get(ShardingKey)))
	}
	require.False(t, msgs.More())
}

func TestMessageOfALongTopicHasTheSecondLayout(t *testing.T) {
	data := stored{body: "b", topic: string(bytes.Repeat([]byte("t"), 200)), offset: 9, props: "a\x01b", v2: true}.append(nil)
	msgs := NewMessages(data)
	var m Message
	require.NoError(t, msgs.Next(&m))
	require.Equal(t, "b", string(m.Body))
	require.Equal(t, map[string]string{"a": "b"}, m.Properties.Map())
}

func TestBodiesAreDecompressedByTheirKind(t *testing.T) {
	plain := bytes.Repeat([]byte("reading "), 100)
	var z, l bytes.Buffer
	zw := zlib.NewWriter(&z)
	_, err := zw.Write(plain)
	require.NoError(t, err)
	require.NoError(t, zw.Close())
	lw := lz4.NewWriter(&l)
	_, err = lw.Write(plain)
	require.NoError(t, err)
	require.NoError(t, lw.Close())
	s, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	for flag, body := range map[int32][]byte{
		flagCompressed: z.Bytes(), flagCompressed | 3<<8: z.Bytes(), flagCompressed | 1<<8: l.Bytes(),
		flagCompressed | 2<<8: s.EncodeAll(plain, nil), 0: plain,
	} {
		m := Message{Body: body, sysFlag: flag}
		got, err := m.Payload()
		require.NoError(t, err)
		require.Equal(t, plain, got)
	}
	m := Message{Body: []byte("not zlib"), sysFlag: flagCompressed}
	_, err = m.Payload()
	require.ErrorContains(t, err, "decompress")
	m.sysFlag = flagCompressed | 7<<8
	_, err = m.Payload()
	require.ErrorContains(t, err, "unknown compression 7")
}

func TestBatchTopicsAreRefusedByName(t *testing.T) {
	msgs := NewMessages(stored{body: "b", topic: "t", sysFlag: flagInnerBatch}.append(nil))
	require.ErrorContains(t, msgs.Next(new(Message)), "BatchCQ")
}

func TestDecodingDoesNotAllocate(t *testing.T) {
	var data []byte
	for i := range 100 {
		data = stored{body: "body", topic: "topic", offset: int64(i), props: "SHARDING_KEY\x01dev\x02"}.append(data)
	}
	var m Message
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for msgs := NewMessages(data); msgs.More(); {
			if msgs.Next(&m) != nil {
				panic("cut")
			}
		}
	}))
}

// Any bytes: no panic, no endless loop, nothing outside the data.
func FuzzMessages(f *testing.F) {
	f.Add(stored{body: "b", topic: "t", props: "a\x01b"}.append(nil))
	f.Add(stored{body: "b", topic: "t", v2: true, sysFlag: flagBornHostV6}.append(stored{topic: "t"}.append(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Message
		for msgs := NewMessages(data); msgs.More(); {
			if msgs.Next(&m) != nil {
				break
			}
			_ = m.Properties.Map()
		}
	})
}

func TestBatchMessagesRoundTrip(t *testing.T) {
	props, err := AppendProperty(nil, "a", "1")
	require.NoError(t, err)
	props, err = AppendProperty(props, "b", "äöü")
	require.NoError(t, err)
	data, err := AppendMessage(nil, []byte("first"), props)
	require.NoError(t, err)
	want := primitive.NewMessage("t", []byte("first"))
	want.WithProperty("a", "1")
	want.WithProperty("b", "äöü")
	require.Equal(t, len(want.Marshal()), len(data))
	size, err := BatchMessageSize(data)
	require.NoError(t, err)
	require.Equal(t, len(data), size)
	body, p, err := BatchMessage(data[:size])
	require.NoError(t, err)
	require.Equal(t, "first", string(body))
	require.Equal(t, map[string]string{"a": "1", "b": "äöü"}, p.Map())
}

func BenchmarkMessages(b *testing.B) {
	var data []byte
	for i := range 1000 {
		data = stored{body: string(bytes.Repeat([]byte("x"), 200)), topic: "topic", offset: int64(i), props: "SHARDING_KEY\x01dev-0001234\x02MR_SHARD\x013\x02MR_SHARDS\x018\x02"}.append(data)
	}
	b.Run("own", func(b *testing.B) {
		var m Message
		for b.Loop() {
			for msgs := NewMessages(data); msgs.More(); {
				if err := msgs.Next(&m); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/message")
	})
	b.Run("client", func(b *testing.B) {
		for b.Loop() {
			primitive.DecodeMessage(data)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/message")
	})
}
