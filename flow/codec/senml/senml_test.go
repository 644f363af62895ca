package senml_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/senml"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/sources/gen"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func decode(t *testing.T, s string) senml.Pack {
	var p senml.Pack
	require.NoError(t, senml.JSON().Decode([]byte(s), &p))
	return p
}

// TestExamplesOfTheRFC has the examples of RFC 8428, sections 5.1.1 to 5.1.4.
func TestExamplesOfTheRFC(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return time.UnixMicro(int64(math.Round(s * 1e6))).UTC() }
	number := func(name, unit string, v float64, at time.Time) senml.Record {
		return senml.Record{Name: name, Unit: unit, Kind: senml.KindNumber, Value: v, Time: at}
	}
	for _, c := range []struct {
		json string
		want []senml.Record
	}{
		{`[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]`, []senml.Record{number("urn:dev:ow:10e2073a01080063", "Cel", 23.1, now)}},
		{`[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]`, []senml.Record{
			number("urn:dev:ow:10e2073a01080063:voltage", "V", 120.1, now), number("urn:dev:ow:10e2073a01080063:current", "A", 1.2, now)}},
		{`[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
			{"n":"current","t":-5,"v":1.2},{"n":"current","v":1.7}]`, []senml.Record{
			number("urn:dev:ow:10e2073a0108006:voltage", "V", 120.1, at(1276020076.001)),
			number("urn:dev:ow:10e2073a0108006:current", "A", 1.2, at(1276020071.001)),
			number("urn:dev:ow:10e2073a0108006:current", "A", 1.7, at(1276020076.001))}},
		{`[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.320067464e+09,"bu":"%RH","n":"humidity","v":20},
			{"n":"location/lat","u":"lat","v":24.30621},{"n":"humidity","t":60,"v":20.3},{"n":"open","vb":true},{"n":"nfc","vd":"aGkgCg"},{"n":"x","vs":"Machine Room","s":2}]`, []senml.Record{
			number("urn:dev:ow:10e2073a01080063:humidity", "%RH", 20, at(1320067464)),
			number("urn:dev:ow:10e2073a01080063:location/lat", "lat", 24.30621, at(1320067464)),
			number("urn:dev:ow:10e2073a01080063:humidity", "%RH", 20.3, at(1320067524)),
			{Name: "urn:dev:ow:10e2073a01080063:open", Unit: "%RH", Kind: senml.KindBool, Bool: true, Time: at(1320067464)},
			{Name: "urn:dev:ow:10e2073a01080063:nfc", Unit: "%RH", Kind: senml.KindData, Data: []byte("hi \n"), Time: at(1320067464)},
			{Name: "urn:dev:ow:10e2073a01080063:x", Unit: "%RH", Kind: senml.KindText, Text: "Machine Room", Sum: 2, HasSum: true, Time: at(1320067464)}}},
		{`[{"n":"a","t":-300,"v":1},{"n":"a","bv":20,"bs":100,"v":1.5,"s":1,"ut":30},{"n":"b"},{"n":"c","vs":"t"}]`, []senml.Record{
			number("a", "", 1, now.Add(-5*time.Minute)),
			{Name: "a", Kind: senml.KindNumber, Value: 21.5, Sum: 101, HasSum: true, Update: 30 * time.Second, Time: now},
			{Name: "b", Kind: senml.KindNumber, Value: 20, Sum: 100, HasSum: true, Time: now},
			{Name: "c", Kind: senml.KindText, Text: "t", Sum: 100, HasSum: true, Time: now}}},
	} {
		p := decode(t, c.json)
		got, err := senml.Resolve(p, now)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
		for _, code := range []codec.Codec[senml.Pack]{senml.JSON(), senml.CBOR()} {
			b, err := code.Append([]byte("prefix"), &p)
			require.NoError(t, err)
			var back senml.Pack
			require.NoError(t, code.Decode(b[6:], &back))
			require.Equal(t, p, back)
			of := senml.Of(got...)
			b, err = code.Append(nil, &of)
			require.NoError(t, err)
			var resolved senml.Pack
			require.NoError(t, code.Decode(b, &resolved))
			again, err := senml.Resolve(resolved, time.Time{})
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	}
}

// TestCBORExample has the example of RFC 8428, section 6, cut to its first two entries.
func TestCBORExample(t *testing.T) {
	t.Parallel()
	data, err := hex.DecodeString(strings.ReplaceAll("82a7 21 781b 75726e3a6465763a6f773a3130653230373361303130383030363a 22 fb41d303a15b001062 23 6141 20 05 "+
		"00 67 766f6c74616765 01 61 56 02 fb405e066666666666 a3 00 67 63757272656e74 06 24 02 fb3ff3333333333333", " ", ""))
	require.NoError(t, err)
	var p senml.Pack
	require.NoError(t, senml.CBOR().Decode(data, &p))
	v, a := 120.1, 1.2
	require.Equal(t, senml.Pack{
		{BaseName: "urn:dev:ow:10e2073a0108006:", BaseTime: 1276020076.001, BaseUnit: "A", BaseVersion: 5, Name: "voltage", Unit: "V", Value: &v},
		{Name: "current", Time: -5, Value: &a},
	}, p)
	for data, want := range map[string]float64{
		"81a2006161 02 01": 1, "81a2006161 02 f93e00": 1.5, "81a2006161 02 c48220 190929": 234.5, "9fbf006161 02 20ffff": -1,
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(data, " ", ""))
		require.NoError(t, err)
		require.NoError(t, senml.CBOR().Decode(b, &p))
		require.InDelta(t, want, *p[0].Value, 0)
	}
}

func TestRejects(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		``:                                   "empty",
		`{}`:                                 "decode JSON",
		`[{"n":"a","v":"1"}]`:                "decode JSON",
		`[{"n":"a","v":1}]x`:                 codec.ErrTrailing.Error(),
		`[{"n":"a","v":1},{"n":"b","x_":1}]`: `entry 2: the field "x_" must be understood`,
		`[{"n":"a","vd":"%"}]`:               "vd is not base64",
		`[{"n":"a","v":1e999}]`:              "decode JSON",
	} {
		require.ErrorContains(t, senml.JSON().Decode([]byte(s), new(senml.Pack)), want, s)
	}
	require.Equal(t, senml.Pack{{Name: "a_", Value: new(float64)}}, decode(t, `[{"n":"a_","v":0,"x":{"y_":1}}]`))
	for s, want := range map[string]string{
		"":                         "empty",
		"80 00":                    codec.ErrTrailing.Error(),
		"a0":                       "decode CBOR",
		"81a1 00":                  "decode CBOR",
		"81a1 02 6161":             "decode CBOR",
		"81a1 02 f97e00":           "NaN",
		"81a1 02 c5822001":         "tag 5 is not a number",
		"81a1 02 c4821a7fffffff01": "does not fit float64",
		"81a1 02 c48101":           "a decimal fraction of 1 parts",
		"81a2 0001 00 02":          "decode CBOR",
		"81a1 62785f 01":           `"x_" must be understood`,
		"9b7fffffffffffffff":       "decode CBOR",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		require.NoError(t, err)
		require.ErrorContains(t, senml.CBOR().Decode(b, new(senml.Pack)), want, s)
	}
	for s, want := range map[string]string{
		`[{"v":1}]`:                                           "entry 1: the name is empty",
		`[{"n":"-a","v":1}]`:                                  `the name "-a" has '-' at byte 0`,
		`[{"n":"a b","v":1}]`:                                 `has ' ' at byte 1`,
		`[{"n":"a","v":1},{"n":"b"}]`:                         `entry 2: "b" has no value`,
		`[{"n":"a","v":1,"vb":true}]`:                         "has 2 values",
		`[{"n":"a","v":1,"bver":11}]`:                         "version 11 is not understood",
		`[{"bver":5,"n":"a","v":1},{"bver":6,"n":"a","v":1}]`: "version 6 after version 5",
		`[{"n":"a","v":1,"t":1e12}]`:                          "out of range",
		`[{"n":"a","v":1,"ut":-1}]`:                           "update time of -1 s",
		`[{"n":"a","v":1e308,"bv":1e308}]`:                    "is not a number",
	} {
		_, err := senml.Resolve(decode(t, s), now)
		require.ErrorContains(t, err, want, s)
	}
	v := math.NaN()
	_, err := senml.CBOR().Append(nil, &senml.Pack{{Value: &v}})
	require.ErrorContains(t, err, "NaN")
	require.Equal(t, "senml+json senml+cbor", senml.JSON().ID()+" "+senml.CBOR().ID())
}

func TestRecordsInATopology(t *testing.T) {
	t.Parallel()
	src, out := flowtest.NewSource[senml.Pack](), flowtest.NewSink[senml.Record]()
	run := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("senml", opts...)
		flow.To(senml.Records(flow.From(top, "in", src), "records"), "out", out)
		return top
	}, src)
	src.Feed(decode(t, `[{"bn":"d1:","n":"a","bt":1700000000,"v":1},{"n":"b","v":2}]`))
	run.Epoch()
	got := out.Values()
	require.Len(t, got, 2)
	require.Equal(t, "d1:b", got[1].Name)
	require.Equal(t, time.Unix(1700000000, 0).UTC(), got[1].At())
}

func FuzzSenMLJSON(f *testing.F) {
	fuzz(f, senml.JSON(), []byte(`[{"bn":"a:","bt":1.5e9,"bv":1,"n":"b","v":2,"ut":3},{"n":"c","vs":"x","t":-5},{"n":"d","vd":"aGk","s":1}]`))
}

func FuzzSenMLCBOR(f *testing.F) {
	v := 1.5
	b, err := senml.CBOR().Append(nil, &senml.Pack{{BaseName: "a:", BaseTime: 1.5e9, Name: "b", Value: &v}, {Name: "c", Data: &senml.Data{1}}})
	require.NoError(f, err)
	fuzz(f, senml.CBOR(), b, []byte("\x81\xa2\x00\x61a\x02\xc4\x82\x20\x19\x09\x29"))
}

func fuzz(f *testing.F, c codec.Codec[senml.Pack], seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p, back senml.Pack
		if c.Decode(data, &p) != nil {
			return
		}
		b, err := c.Append(nil, &p)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b, &back))
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, b, again)
		records, err := senml.Resolve(p, now)
		if err != nil {
			return
		}
		for i := range records {
			if records[i].Time.Unix() < 1<<28 {
				return // relative to another now, Of's time would be relative
			}
		}
		resolved, err := senml.Resolve(senml.Of(records...), time.Time{})
		require.NoError(t, err)
		require.Equal(t, len(records), len(resolved))
		for i := range records {
			require.Equal(t, records[i].Name, resolved[i].Name)
			require.Equal(t, records[i].Value, resolved[i].Value)
			require.LessOrEqual(t, records[i].Time.Sub(resolved[i].Time).Abs(), 50*time.Microsecond)
		}
	})
}

func ExampleResolve() {
	var p senml.Pack
	err := senml.JSON().Decode([]byte(`[{"bn":"dev1:","bt":1700000000,"bu":"Cel","n":"inside","v":21.5},{"n":"outside","t":-60,"v":4}]`), &p)
	fmt.Println(err)
	records, err := senml.Resolve(p, time.Now())
	for _, r := range records {
		fmt.Println(r.Name, r.Value, r.Unit, r.Time)
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// dev1:inside 21.5 Cel 2023-11-14 22:13:20 +0000 UTC
	// dev1:outside 4 Cel 2023-11-14 22:12:20 +0000 UTC
	// <nil>
}

func ExampleRecords() {
	packs := gen.Slice(senml.Pack{{BaseName: "dev1:", BaseTime: 1700000000, Name: "temperature", Value: new(float64)}})
	t := flow.New("senml", flow.WithLogger(slog.New(slog.DiscardHandler)))
	records := senml.Records(flow.From(t, "packs", packs), "records")
	flow.To(records, "print", flow.SinkFunc(func(_ context.Context, batch []flow.Record[senml.Record]) error {
		for _, r := range batch {
			fmt.Println(r.Value.Name, r.Value.Value, r.Value.Time)
		}
		return nil
	}))
	fmt.Println(t.Run(context.Background()))
	// Output:
	// dev1:temperature 0 2023-11-14 22:13:20 +0000 UTC
	// <nil>
}
