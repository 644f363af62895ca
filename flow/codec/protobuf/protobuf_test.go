package protobuf_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/millrace-stream/millrace/flow/codec/protobuf"
	"github.com/millrace-stream/millrace/flow/codec/protobuf/internal/testpb"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func sample() *testpb.Reading {
	return &testpb.Reading{DeviceId: "d1", At: timestamppb.New(at), Temperature: 21.5, Seq: 7, Values: map[string]float64{"b": 1, "a": 2}, Raw: []byte{1, 2},
		Parts: []*testpb.Reading{{DeviceId: "part"}}}
}

func TestBringsBackWhatWentIn(t *testing.T) {
	t.Parallel()
	c := protobuf.Codec[*testpb.Reading]()
	m := sample()
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 5))
	b, err := c.Append([]byte("prefix"), &m)
	require.NoError(t, err)
	data := append([]byte(nil), b[6:]...)
	var got *testpb.Reading
	require.NoError(t, c.Decode(data, &got))
	clear(data)
	require.True(t, proto.Equal(m, got), "nothing of the payload is kept, unknown fields are")
	again, err := c.Append(nil, &got)
	require.NoError(t, err)
	require.Equal(t, b[6:], again)
	require.Equal(t, "protobuf/millrace.test.Reading", c.ID())
	require.NoError(t, c.Decode(nil, &got))
	require.True(t, proto.Equal(&testpb.Reading{}, got), "an empty payload is an empty message")
	got = nil
	_, err = c.Append(nil, &got)
	require.ErrorContains(t, err, "the message is nil")
}

func TestRejects(t *testing.T) {
	t.Parallel()
	c := protobuf.Codec[*testpb.Reading]()
	deep := []byte{}
	for range 400 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), deep)
	}
	for name, x := range map[string]struct {
		data []byte
		want string
	}{
		"cut":       {[]byte{0x0a, 5, 'a'}, `field "device_id" at byte 1: the payload ends within it: it is cut`},
		"inner":     {[]byte{0x20, 1, 0x2a, 3, 0x0a, 9, 'x'}, `field "parts.device_id" at byte 5: the payload ends within it`},
		"tag":       {[]byte{0x20, 1, 0x07}, "at byte 2: this is no field tag"},
		"cut tag":   {[]byte{0x80}, "at byte 0: this is no field tag: the payload ends within it"},
		"not UTF-8": {[]byte{0x0a, 1, 0xff}, `field "device_id" at byte 2: the text is not UTF-8`},
		"unknown":   {[]byte{0xfa, 0x06, 9}, `field "111" at byte 2: the payload ends`},
		"varint":    {append([]byte{0x20}, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")...), `field "seq" at byte 1: it is malformed`},
		"deep":      {deep, "nested more than 256 deep"},
	} {
		var m *testpb.Reading
		err := c.Decode(x.data, &m)
		require.ErrorContains(t, err, x.want, name)
		require.ErrorContains(t, err, "decode millrace.test.Reading: ", name)
		require.ErrorIs(t, err, proto.Error, name)
		require.Nil(t, m, name)
	}
	var m proto.Message
	require.ErrorContains(t, protobuf.Codec[proto.Message]().Decode(nil, &m), "is an interface")
	_, err := protobuf.Time[proto.Message]()
	require.ErrorContains(t, err, "is an interface")
}

func TestTimeAndIDByFieldOptions(t *testing.T) {
	t.Parallel()
	when, err := protobuf.Time[*testpb.Reading]()
	require.NoError(t, err)
	id, err := protobuf.ID[*testpb.Reading]()
	require.NoError(t, err)
	require.Equal(t, at, when(sample()))
	require.Equal(t, "2:d11:7", id(sample()))
	require.True(t, when(&testpb.Reading{}).IsZero())
	require.True(t, when(nil).IsZero())
	require.Equal(t, "0:1:0", id(nil))

	inner, err := protobuf.Time[*testpb.Wrapped]()
	require.NoError(t, err)
	innerID, err := protobuf.ID[*testpb.Wrapped]()
	require.NoError(t, err)
	w := &testpb.Wrapped{Header: &testpb.Header{Sent: at.UnixMilli(), Id: []byte{0xff, 0xfe}}}
	require.Equal(t, at.Truncate(time.Millisecond), inner(w))
	require.Equal(t, "__4", innerID(w))
	require.True(t, inner(&testpb.Wrapped{}).IsZero())
	require.Empty(t, innerID(&testpb.Wrapped{}))

	s, err := protobuf.Time[*testpb.Units]()
	require.NoError(t, err)
	n, err := protobuf.ID[*testpb.Units]()
	require.NoError(t, err)
	require.Equal(t, time.Unix(-5, 0).UTC(), s(&testpb.Units{S: -5}))
	require.Equal(t, "5", n(&testpb.Units{N: 5}))
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	_, err := protobuf.Time[*testpb.Plain]()
	require.ErrorContains(t, err, "no field with the option (millrace.event_time)")
	_, err = protobuf.ID[*testpb.Plain]()
	require.ErrorContains(t, err, "no field with the option (millrace.event_id)")
	_, err = protobuf.Time[*testpb.Wrong]()
	require.ErrorContains(t, err, "field millrace.test.Wrong.at is marked as MILLIS and is a string")
	_, err = protobuf.ID[*testpb.Wrong]()
	require.ErrorContains(t, err, "millrace.test.Wrong.id is repeated")
	_, err = protobuf.Time[*testpb.Twice]()
	require.ErrorContains(t, err, "has 2 fields")
}

func FuzzProtobuf(f *testing.F) {
	c := protobuf.Codec[*testpb.Reading]()
	m := sample()
	b, err := c.Append(nil, &m)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0x0a, 5, 'a'})
	f.Add([]byte{0x2a, 3, 0x0a, 9, 'x'})
	when, err := protobuf.Time[*testpb.Reading]()
	require.NoError(f, err)
	id, err := protobuf.ID[*testpb.Reading]()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back *testpb.Reading
		if c.Decode(data, &v) != nil {
			return
		}
		when(v)
		id(v)
		b, err := c.Append(nil, &v)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b, &back))
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func ExampleCodec() {
	c := protobuf.Codec[*testpb.Reading]()
	m := &testpb.Reading{DeviceId: "d1", At: timestamppb.New(at), Temperature: 21.5, Seq: 7}
	b, err := c.Append(nil, &m)
	fmt.Println(len(b), err)
	var r *testpb.Reading
	fmt.Println(c.Decode(b, &r), r.GetDeviceId(), r.GetTemperature())
	fmt.Println(c.Decode([]byte{0x0a, 5, 'a'}, &r))
	// Output:
	// 25 <nil>
	// <nil> d1 21.5
	// decode millrace.test.Reading: field "device_id" at byte 1: the payload ends within it: it is cut
}

func ExampleTime() {
	// message Reading {
	//   string device_id = 1 [(millrace.event_id) = true];
	//   google.protobuf.Timestamp at = 2 [(millrace.event_time) = TIMESTAMP];
	//   uint64 seq = 4 [(millrace.event_id) = true];
	//   …
	eventTime, err := protobuf.Time[*testpb.Reading]()
	fmt.Println(err)
	eventID, err := protobuf.ID[*testpb.Reading]()
	fmt.Println(err)
	m := &testpb.Reading{DeviceId: "d1", At: timestamppb.New(at), Seq: 7}
	fmt.Println(eventTime(m), eventID(m))
	// Output:
	// <nil>
	// <nil>
	// 2026-01-02 03:04:05.000000006 +0000 UTC 2:d11:7
}
