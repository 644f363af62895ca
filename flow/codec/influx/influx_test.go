package influx_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/influx"
)

func TestReadsLines(t *testing.T) {
	t.Parallel()
	data := []byte("# a comment\r\n\n" +
		`we\ at\,her,site=nor\=th\ 1,dev=a\,b temp=21.5,n=-3i,u=18446744073709551615u,ok=T,s="a \"b\" \\ , =` + "\n" + `c",e=1e-3 1700000000123` + "\n" +
		"m f=1\n")
	var got []influx.Point
	require.NoError(t, influx.Batch(influx.In(influx.Millisecond)).Decode(data, &got))
	for i := range data {
		data[i] = '#'
	}
	require.Equal(t, []influx.Point{
		{Measurement: "we at,her", Tags: []influx.Tag{{"site", "nor=th 1"}, {"dev", "a,b"}}, Fields: []influx.Field{
			{"temp", influx.Float(21.5)}, {"n", influx.Int(-3)}, {"u", influx.Uint(math.MaxUint64)}, {"ok", influx.Bool(true)},
			{"s", influx.String("a \"b\" \\ , =\nc")}, {"e", influx.Float(0.001)},
		}, Time: time.UnixMilli(1700000000123).UTC()},
		{Measurement: "m", Fields: []influx.Field{{"f", influx.Float(1)}}},
	}, got)
	require.Equal(t, "a,b", got[0].Tag("dev"))
	require.Empty(t, got[0].Tag("none"))
	v, ok := got[0].Field("n")
	require.True(t, ok)
	x, ok := v.Number()
	require.True(t, ok)
	require.InDelta(t, -3, x, 0)
	_, ok = got[0].Field("none")
	require.False(t, ok)
	_, ok = influx.String("1").Number()
	require.False(t, ok)

	var each []influx.Point
	require.NoError(t, influx.Each(context.Background(), got, func(p influx.Point) { each = append(each, p) }))
	require.Equal(t, got, each)
}

func TestPrecision(t *testing.T) {
	t.Parallel()
	for p, want := range map[influx.Precision]string{influx.Nanosecond: "-1500000001", influx.Microsecond: "-1500001", influx.Millisecond: "-1501", influx.Second: "-2"} {
		c := influx.Codec(influx.In(p))
		at := time.Unix(-2, 499_999_999)
		b, err := c.Append(nil, &influx.Point{Measurement: "m", Fields: []influx.Field{{"f", influx.Int(1)}}, Time: at})
		require.NoError(t, err)
		require.Equal(t, "m f=1i "+want+"\n", string(b))
		var got influx.Point
		require.NoError(t, c.Decode(b, &got))
		require.Equal(t, at.Truncate(p.Duration()).UTC(), got.Time)
	}
	require.Equal(t, "influx/ns", influx.Batch().ID())
	require.Equal(t, "influx/s", influx.Codec(influx.In(influx.Second)).ID())
}

func TestRejects(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"":                           "no point",
		"# only a comment":           "no point",
		"m":                          "at line 1, byte 2 of it",
		"m f=":                       "at line 1, byte 5 of it",
		"m,t f=1":                    "expected '=' after tag key",
		"m,=v f=1":                   "at line 1, byte 3 of it",
		"m,t= f=1":                   "expected tag value",
		"m f=abc":                    "at line 1, byte 5 of it",
		"m f=1i5":                    "at line 1, byte",
		"m f=9223372036854775808i":   "out of range",
		"m f=\"open":                 "at line 1, byte",
		"m f=1 12x":                  "invalid timestamp",
		"m f=1 12 13":                "unexpected text after timestamp",
		"m f=1 9223372036854775808":  "is the precision right?",
		"m f=1,f=2":                  `the field "f" comes twice`,
		"m,t=1,t=2 f=1":              `the tag "t" comes twice`,
		"m f=NaN":                    "at line 1",
		"m\xff f=1":                  "invalid utf-8",
		"\nm f=1\nn f=1":             codec.ErrTrailing.Error(),
		"\n\n#c\nm f=tru":            "at line 4, byte 5 of it",
		"m " + fields(20) + ",f3=1i": `the field "f3" comes twice`,
	} {
		b := []byte(data)
		err := influx.Codec().Decode(b, &influx.Point{})
		for i := range b {
			b[i] = '#'
		}
		require.ErrorContains(t, err, want, data)
		require.ErrorContains(t, err, "decode line protocol: ")
	}
	var got []influx.Point
	require.ErrorContains(t, influx.Batch().Decode([]byte("m f=1\nm f=\nm f=1"), &got), "point 2: at line 2, byte 5")
	require.ErrorContains(t, influx.Batch(influx.In(influx.Second)).Decode([]byte("m f=1 1700000000000"), &got), "is the precision right?")
	require.NoError(t, influx.Batch().Decode(nil, &got))
	require.Empty(t, got)
}

func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",f%d=%d", i, i)
	}
	return b.String()[1:]
}

func TestAppendFailures(t *testing.T) {
	t.Parallel()
	ok := []influx.Field{{"f", influx.Int(1)}}
	for want, p := range map[string]influx.Point{
		"at least one field":               {Measurement: "m"},
		"invalid measurement":              {Fields: ok},
		"would be a comment":               {Measurement: "#m", Fields: ok},
		"invalid tag key":                  {Measurement: "m", Tags: []influx.Tag{{"a\\", "b"}}, Fields: ok},
		"invalid tag value":                {Measurement: "m", Tags: []influx.Tag{{"a", "b\n"}}, Fields: ok},
		"out of order":                     {Measurement: "m", Tags: []influx.Tag{{"a", "b"}, {"a", "c"}}, Fields: ok},
		`field "f" comes`:                  {Measurement: "m", Fields: append(ok, ok...)},
		"has no encoding":                  {Measurement: "m", Fields: []influx.Field{{"f", influx.Float(math.NaN())}}},
		`"g" has no encoding`:              {Measurement: "m", Fields: []influx.Field{{"g", influx.Value{Kind: 9}}}},
		"line-protocol value out of range": {Measurement: "m", Fields: ok, Time: time.Unix(1e12, 0)},
	} {
		out, err := influx.Codec().Append([]byte("prefix"), &p)
		require.ErrorContains(t, err, want)
		require.Equal(t, "prefix", string(out))
	}
	_, err := influx.Batch().Append(nil, &[]influx.Point{{Measurement: "m", Fields: ok}, {}})
	require.ErrorContains(t, err, "point 2")
}

func FuzzInflux(f *testing.F) {
	for _, s := range []string{
		"m f=1", `we\ at\,her,site=nor\=th\ 1,dev=a\,b temp=21.5,n=-3i,u=1u,ok=T,s="a \"b\" \\" 1700000000123`, "# c\nm f=1\r\n\r\nm2 g=2 5",
		"m\\ f=1", "m,t=a\\ f=1", "m f=\"\x01\xff\"", "m f=0x1p-2,g=1_0,h=+1,i=.5,j=inf,k=-0", "m f=1 -9223372036854775808", "m  f=1  5 ", "\xff",
	} {
		f.Add([]byte(s))
	}
	c := influx.Batch(influx.In(influx.Millisecond))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back []influx.Point
		if c.Decode(data, &v) != nil {
			return
		}
		b, err := c.Append(nil, &v)
		if err != nil {
			require.ErrorContains(t, err, "invalid ")
			return
		}
		require.NoError(t, c.Decode(b, &back), "%q", b)
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, string(b), string(again))
		require.Len(t, back, len(v))
		for i := range v {
			require.Equal(t, v[i].Fields, back[i].Fields)
			require.Equal(t, v[i].Time, back[i].Time)
		}
	})
}

func ExampleCodec() {
	c := influx.Codec(influx.In(influx.Millisecond))
	var p influx.Point
	fmt.Println(c.Decode([]byte(`weather,device=d1 temperature=21.5,ok=true 1700000000000`), &p))
	v, _ := p.Field("temperature")
	fmt.Println(p.Tag("device"), v.Float, p.Time)
	fmt.Println(c.Decode([]byte(`weather,device=d1 temperature=warm`), &p))
	b, err := c.Append(nil, &influx.Point{Measurement: "alarm", Tags: []influx.Tag{{"device", "d 1"}}, Fields: []influx.Field{{"count", influx.Int(3)}}})
	fmt.Print(string(b), err, "\n")
	// Output:
	// <nil>
	// d1 21.5 2023-11-14 22:13:20 +0000 UTC
	// decode line protocol: at line 1, byte 31 of it: field value has unrecognized type
	// alarm,device=d\ 1 count=3i
	// <nil>
}
