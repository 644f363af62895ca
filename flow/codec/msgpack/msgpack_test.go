package msgpack_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tinylib/msgp/msgp"

	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/msgpack"
)

type reading struct {
	Device  string             `msg:"device"`
	At      time.Time          `msgpack:"at"`
	Celsius float64            `json:"c"`
	Small   int8               `msg:"small"`
	Count   uint16             `msg:"count"`
	Short   float32            `msg:"short"`
	OK      bool               `msg:"ok"`
	Raw     []byte             `msg:"raw"`
	Tags    []string           `msg:"tags"`
	Pair    [2]int             `msg:"pair"`
	Values  map[string]float64 `msg:"values"`
	ByID    map[int64]bool     `msg:"byId"`
	Addr    netip.Addr         `msg:"addr"`
	Next    *reading           `msg:"next,omitempty"`
	Secret  func()             `msg:"-"`
}

func sample() reading {
	return reading{Device: "a", At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Celsius: 21.5, Small: -128, Count: math.MaxUint16, Short: 0.1, OK: true,
		Raw: []byte{0, 255}, Tags: []string{"x", ""}, Pair: [2]int{1, math.MinInt64}, Values: map[string]float64{"b": math.Inf(1), "a": -0.5},
		ByID: map[int64]bool{-1: true}, Addr: netip.MustParseAddr("::1"), Next: &reading{Device: "next", At: time.Unix(1, 0).UTC(), Addr: netip.MustParseAddr("10.0.0.1")}}
}

func TestBringsBackWhatWentIn(t *testing.T) {
	t.Parallel()
	c := msgpack.Codec[reading]()
	v := sample()
	b, err := c.Append([]byte("prefix"), &v)
	require.NoError(t, err)
	var got reading
	require.NoError(t, c.Decode(b[6:], &got))
	for i := range b[6:] {
		b[6+i] = '#'
	}
	require.Equal(t, v, got, "nothing of the payload is kept")
	require.Equal(t, "msgpack", c.ID())
}

func TestNumbersOfOtherWidths(t *testing.T) {
	t.Parallel()
	c := msgpack.Codec[reading]()
	b := msgp.AppendMapHeader(nil, 3)
	b = msgp.AppendInt64(msgp.AppendString(b, "c"), -20)
	b = append(msgp.AppendString(b, "count"), 0xd3, 0, 0, 0, 0, 0, 0, 0, 7)
	b = msgp.AppendFloat32(msgp.AppendString(b, "unknown"), 1)
	var v reading
	require.NoError(t, c.Decode(b, &v))
	require.Equal(t, reading{Celsius: -20, Count: 7}, v)
}

func TestRejects(t *testing.T) {
	t.Parallel()
	c := msgpack.Codec[reading]()
	one := func(name string, value ...byte) []byte {
		return append(msgp.AppendString([]byte{0x81}, name), value...)
	}
	nested := []byte{}
	for range 300 {
		nested = append(nested, one("next")...)
	}
	deep := append(one("unknown"), []byte(strings.Repeat("\x91", 5_000_000))...)
	for name, x := range map[string]struct {
		data []byte
		want string
	}{
		"empty":        {nil, "the payload is empty"},
		"trailing":     {[]byte{0x80, 0x80}, "at byte 1: data behind the value"},
		"cut":          {[]byte{0x81}, "at byte 0: a count of 1 with 0 bytes left"},
		"cut value":    {one("device", 0xa5, 'a'), `field "device" at byte 8: the payload ends within a value: it is cut`},
		"type":         {one("device", 1), `field "device" at byte 8: msgp: attempted to decode type "int" with method for "str"`},
		"too great":    {one("small", 0xcc, 128), `field "small" at byte 7: 128 does not fit int8`},
		"negative":     {one("count", 0xff), `field "count" at byte 7`},
		"cut to int":   {one("small", 0xca, 0, 0, 0, 0), `field "small"`},
		"float32":      {msgp.AppendFloat64(one("short"), 1e300), `does not fit float32`},
		"count":        {one("tags", 0xdd, 255, 255, 255, 255), `field "tags" at byte 6: a count of 4294967295 with 0 bytes left`},
		"length":       {one("raw", 0xc6, 255, 255, 255, 255), `field "raw" at byte 5: the payload ends`},
		"twice":        {[]byte("\x82\xa2ok\xc3\xa2ok\xc3"), `field "ok" at byte 5: the name comes twice`},
		"array":        {one("pair", 0x91, 1), `an array of 1 elements does not fit [2]int`},
		"in a struct":  {one("next", append([]byte{0x81, 0xa1, 'c'}, 0xc3)...), `field "next.c" at byte 9`},
		"deep":         {nested, "nested more than 256 deep"},
		"deep unknown": {deep, "nested more than 256 deep"},
		"not a map":    {[]byte{0x90}, "at byte 0"},
		"text":         {one("addr", 0xa1, 'x'), `field "addr" at byte 6`},
	} {
		err := c.Decode(x.data, &reading{})
		require.ErrorContains(t, err, x.want, name)
		require.ErrorContains(t, err, "decode MessagePack: ", name)
	}
	require.ErrorIs(t, c.Decode([]byte{0x80, 0x80}, &reading{}), codec.ErrTrailing)
}

func TestRefusesWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	type hidden struct{ Sub []struct{ secret int } }
	type loose struct{ V any }
	type embeds struct{ hidden }
	type twice struct {
		A int `msg:"b"`
		B int `msg:"b"`
	}
	_, err := msgpack.Codec[hidden]().Append(nil, &hidden{})
	require.ErrorContains(t, err, "unexported field Sub.secret")
	require.ErrorContains(t, msgpack.Codec[loose]().Decode([]byte{0x80}, &loose{}), "field V")
	require.ErrorContains(t, msgpack.Codec[embeds]().Decode([]byte{0x80}, &embeds{}), "embedded")
	require.ErrorContains(t, msgpack.Codec[twice]().Decode([]byte{0x80}, &twice{}), "two fields")
	require.ErrorContains(t, msgpack.Codec[map[[2]int]int]().Decode([]byte{0x80}, &map[[2]int]int{}), "keys must be")
	_, err = msgpack.Codec[reading]().Append(nil, &reading{At: time.Unix(1e12, 0)})
	require.ErrorContains(t, err, `field "at": the year`)
	loop := &reading{}
	loop.Next = loop
	_, err = msgpack.Codec[reading]().Append(nil, loop)
	require.ErrorContains(t, err, "nested more than")
}

// own is a type with the methods that tinylib/msgp generates.
type own struct{ n int64 }

func (o *own) MarshalMsg(b []byte) ([]byte, error) { return msgp.AppendInt64(b, o.n), nil }

func (o *own) UnmarshalMsg(b []byte) (rest []byte, err error) {
	o.n, rest, err = msgp.ReadInt64Bytes(b)
	return rest, err
}

func TestGeneratedMethodsAreUsed(t *testing.T) {
	t.Parallel()
	type holds struct{ O own }
	b, err := msgpack.Codec[own]().Append(nil, &own{7})
	require.NoError(t, err)
	require.Equal(t, []byte{7}, b)
	b, err = msgpack.Codec[holds]().Append(nil, &holds{own{7}})
	require.NoError(t, err)
	var got holds
	require.NoError(t, msgpack.Codec[holds]().Decode(b, &got))
	require.Equal(t, holds{own{7}}, got)
	require.ErrorContains(t, msgpack.Codec[holds]().Decode([]byte("\x81\xa1O\xc3"), &got), `field "O" at byte 3`)
}

func FuzzMsgpack(f *testing.F) {
	c := msgpack.Codec[reading]()
	v := sample()
	b, err := c.Append(nil, &v)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0x80})
	f.Add([]byte("\x81\xa7unknown\x92\x81\x01\xc0\xd9\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back reading
		if c.Decode(data, &v) != nil {
			return
		}
		b, err := c.Append(nil, &v)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b, &back))
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

func ExampleCodec() {
	type Reading struct {
		Device      string  `msg:"device"`
		Temperature float64 `msg:"temperature"`
	}
	c := msgpack.Codec[Reading]()
	b, err := c.Append(nil, &Reading{"a", 21.5})
	fmt.Println(len(b), err)
	var r Reading
	fmt.Println(c.Decode(b, &r), r)
	fmt.Println(c.Decode(b[:9], &r))
	// Output:
	// 31 <nil>
	// <nil> {a 21.5}
	// decode MessagePack: field "device" at byte 8: the payload ends within a value: it is cut (msgp: too few bytes left to read object)
}

// TestReadsAnotherImplementation has a value that was written by the Python library msgpack.
func TestReadsAnotherImplementation(t *testing.T) {
	t.Parallel()
	data, err := hex.DecodeString("89a6646576696365a161a26174d7ff000000146553f100a163cb4035800000000000a5736d616c6cd09ca5636f756e74cdffffa47461677392a178a2c3a9a3726177c402" +
		"00ffa676616c75657381a16101a7756e6b6e6f776e81a1789301c081a179cb4004000000000000")
	require.NoError(t, err)
	var v reading
	require.NoError(t, msgpack.Codec[reading]().Decode(data, &v))
	require.Equal(t, reading{Device: "a", At: time.Unix(1700000000, 5).UTC(), Celsius: 21.5, Small: -100, Count: math.MaxUint16, Tags: []string{"x", "é"},
		Raw: []byte{0, 255}, Values: map[string]float64{"a": 1}}, v)
}
