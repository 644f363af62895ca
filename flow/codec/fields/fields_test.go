package fields_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
)

const full = `{"str":"plain","level":"high","int":-12,"i8":-128,"i16":32767,"i32":-5,"i64":-9223372036854775808,"count":65535,"u":7,"u8":255,` +
	`"u64":18446744073709551615,"f32":0.1,"f64":21.53,"celsius":-0.0,"ok":true,"maybe":1e300,"name":"n","deep":4,"Floats":[1,2.5,-3e-2],` +
	`"words":["a","","\u00e9"],"grid":[[1,2],[],[3]],"three":[1,2,3],"blob":"aGVsbG8=","at":"2026-01-02T03:04:05.678Z",` +
	`"times":["2026-01-02T03:04:05+01:00"],"raw":{"x":[1,{"y":null}]},"site":{"name":"north","lat":52.5,"kids":[{"name":"k","lat":0}]},` +
	`"other":{"name":"o","lat":1},"sites":[{"name":"a","lat":2}],"parent":{"str":"up","three":[9,8,7]},"nested":{"name":"inner","opt":3},` +
	`"ünï":"ü","-":8,"a-name-of-more-than-sixteen-bytes":"long","empty":{},"opt":{"s":"s","n":1,"b":true,"f":[1.5],"t":"2026-01-02T03:04:05Z","r":0,"p":1}}`

// both decodes by the generated codec and by encoding/json, and wants the same of them.
func both(t require.TestingT, data []byte) (got Everything, err error) {
	var want Everything
	err = EverythingCodec(fields.Alias()).Decode(data, &got)
	wantErr := json.Unmarshal(data, &want)
	require.Equal(t, wantErr == nil, err == nil, "%q: %v, encoding/json: %v", data, err, wantErr)
	if err == nil {
		equal(t, want, got, data)
	}
	return got, err
}

func equal(t require.TestingT, want, got Everything, data []byte) {
	if reflect.DeepEqual(want, got) {
		return
	}
	require.Equal(t, want, got, "%s", data)
}

func TestReadsWhatEncodingJSONReads(t *testing.T) {
	t.Parallel()
	for _, s := range append(payloads(), full,
		strings.ReplaceAll(strings.ReplaceAll(full, ",", ", "), ":", ": "), strings.ReplaceAll(full, ",", "\n\t,\r "),
		" \n"+full+"\t ") {
		_, _ = both(t, []byte(s))
	}
}

func TestEachCutOfAPayloadIsAnError(t *testing.T) {
	t.Parallel()
	for i := range len(full) {
		_, err := both(t, []byte(full[:i]))
		require.Error(t, err)
	}
}

func TestEachByteChanged(t *testing.T) {
	t.Parallel()
	for i := 0; i < len(full); i += 2 {
		for _, c := range []byte("\"\\}] 0e\x1f\xff") {
			b := []byte(full)
			b[i] = c
			_, _ = both(t, b)
		}
	}
}

func TestFieldsInAnyOrder(t *testing.T) {
	t.Parallel()
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(full), &all))
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		var b strings.Builder
		for i, n := range names[:rnd.IntN(len(names)+1)] {
			b.WriteString([]string{"{", ","}[min(i, 1)])
			if rnd.IntN(5) == 0 {
				b.WriteString(` "unknown" : {"deviceId":[1,"}]",{"a":{}}],"x":"\"\\"} ,`)
			}
			b.WriteString(strconv.Quote(n) + ":" + string(all[n]))
		}
		if b.Len() == 0 {
			b.WriteByte('{')
		}
		_, err := both(t, []byte(b.String()+"}"))
		require.NoError(t, err)
	}
}

func TestNumbersToTheBit(t *testing.T) {
	t.Parallel()
	c := ReadingCodec()
	check := func(s string) {
		var r Reading
		err := c.Decode([]byte(`{"temperature":`+s+`}`), &r)
		want, wantErr := strconv.ParseFloat(s, 64)
		require.Equal(t, wantErr == nil, err == nil, s)
		if err == nil {
			require.Equal(t, math.Float64bits(want), math.Float64bits(r.Temperature), s)
		}
	}
	for _, s := range []string{"0", "-0", "-0.0", "0.1", "0.30000000000000004", "9007199254740993", "123456789012345.6", "1234567890123456",
		"0.000000000000001", "99999999999999.9", "1e22", "1e23", "1.7976931348623157e308", "1e309", "5e-324", "2e-324", "100000000000000000000000000",
		"0.1234567890123456789012345678901234567890", "1E5", "1e+5", "1e-05"} {
		check(s)
		check("-" + strings.TrimPrefix(s, "-"))
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		x := math.Float64frombits(rnd.Uint64())
		if rnd.IntN(2) == 0 {
			x = math.Trunc(rnd.NormFloat64()*1e6) / math.Pow10(rnd.IntN(8))
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			continue
		}
		check(strconv.FormatFloat(x, 'f', rnd.IntN(20)-1, 64))
		check(string(mustJSON(t, x)))
	}
	for range 20_000 {
		n := int64(rnd.Uint64()) >> rnd.IntN(64)
		var r Reading
		require.NoError(t, c.Decode([]byte(`{"seq":`+strconv.FormatInt(n, 10)+`}`), &r))
		require.Equal(t, n, r.Seq)
	}
}

func mustJSON(t require.TestingT, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		``:                                 "at byte 0: the payload is empty",
		"\n\n":                             "at byte 2: the payload is empty",
		`[]`:                               "at byte 0: want an object of Everything, got an array",
		`{"f64":"text"}`:                   `field "f64" at byte 7: want a number, got a string`,
		`{"site":{"lat":tru}}`:             `field "site.lat" at byte 15: want a number, got a boolean`,
		`{"parent":{"sites":[{"lat":[`:     `field "parent.sites.lat" at byte 27: want a number, got an array`,
		`{"i8":128}`:                       `field "i8" at byte 6: 128 does not fit int8`,
		`{"i64":9223372036854775808}`:      `field "i64" at byte 7: the number does not fit int64`,
		`{"u":-1}`:                         `field "u" at byte 5: the number is negative`,
		`{"int":1.0}`:                      `field "int" at byte 7: want a whole number`,
		`{"str":"a` + "\n" + `"}`:          `field "str" at byte 9: a control character`,
		`{"str":"a\x"}`:                    `field "str" at byte 8: the string has an escape`,
		`{"str":"a`:                        `field "str" at byte 9: the payload ends within a string: it is cut`,
		`{"str":"a"`:                       `at byte 10: the payload ends where a comma or the end of the object is expected`,
		`{"str":"a",}`:                     `at byte 11: want a name in quotes, got '}'`,
		`{"at":"yesterday"}`:               `field "at" at byte 7: the string is not a time of RFC 3339`,
		`{"blob":"%"}`:                     `field "blob" at byte 8: the string is not base64`,
		`{"else":[1,2}`:                    `field "else" at byte 12: want a comma or the end of a value, got '}'`,
		`{"three":[1,`:                     `field "three" at byte 12: the payload ends where a number is expected`,
		`{"str":"a"}{}`:                    "data behind the value",
		`{"x":` + strings.Repeat("[", 600): "nested more than 512 deep",
		strings.Repeat(`{"parent":`, 600):  "nested more than 512 deep",
	} {
		data := []byte(s)
		var v Everything
		err := EverythingCodec().Decode(data, &v)
		for i := range data {
			data[i] = '#'
		}
		require.ErrorContains(t, err, want, s)
		require.ErrorContains(t, err, "decode JSON: ")
		require.Equal(t, strings.HasPrefix(want, "data behind"), errors.Is(err, codec.ErrTrailing), s)
		var e *fields.Error
		require.ErrorAs(t, err, &e)
	}
}

func TestCopiesUnlessToldToAlias(t *testing.T) {
	t.Parallel()
	data := []byte(full)
	var copied, aliased Everything
	require.NoError(t, EverythingCodec().Decode(data, &copied))
	require.NoError(t, EverythingCodec(fields.Alias()).Decode(data, &aliased))
	require.Equal(t, copied, aliased)
	var want Everything
	require.NoError(t, json.Unmarshal(data, &want))
	for i := range data {
		data[i] = '#'
	}
	require.Equal(t, want, copied, "nothing of the payload is kept")
	require.Equal(t, "#####", aliased.Str)
	require.True(t, codec.Aliases(EverythingCodec(fields.Alias())))
	require.False(t, codec.Aliases(EverythingCodec()))
	require.False(t, codec.Aliases(codec.JSON[Everything]()))
	require.Equal(t, "aé", aliased.Words[0][:0]+"a"+aliased.Words[2], "what had escapes is never aliased")
}

func TestAppendsWhatEncodingJSONReadsBack(t *testing.T) {
	t.Parallel()
	c := EverythingCodec()
	var v Everything
	require.NoError(t, c.Decode([]byte(full), &v))
	v.Str = "\"\\\b\f\n\r\t\x01\x7f\u2028<&>\xff é"
	v.F32, v.F64 = 1e-7, 1e21
	for _, v := range []Everything{v, {}, {Opt: Optional{R: 1, N: 2}}, {Words: Words{}, Floats: []float64{math.Copysign(0, -1), 5e-324, math.MaxFloat64}}} {
		rawNull(&v)
		prefix := []byte("prefix")
		b, err := c.Append(prefix, &v)
		require.NoError(t, err)
		require.Equal(t, "prefix", string(b[:6]))
		var other bytes.Buffer
		e := json.NewEncoder(&other)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(v))
		require.Equal(t, other.String(), string(b[6:])+"\n")
		got, err := both(t, b[6:])
		require.NoError(t, err)
		v.Str = strings.ToValidUTF8(v.Str, "\ufffd")
		require.Equal(t, v, got)
	}
	require.Equal(t, "json", c.ID())
}

// rawNull makes v what it is after having been written: a raw value that is nil is null then.
func rawNull(v *Everything) {
	for ; v != nil; v = v.Parent {
		if v.Raw == nil {
			v.Raw = json.RawMessage("null")
		}
	}
}

func TestAppendFailures(t *testing.T) {
	t.Parallel()
	b := []byte("prefix")
	out, err := EverythingCodec().Append(b, &Everything{Site: Site{Lat: math.NaN()}})
	require.ErrorContains(t, err, `encode JSON: field "site": field "lat": NaN: JSON has no NaN`)
	require.Equal(t, "prefix", string(out))
	_, err = EverythingCodec().Append(b, &Everything{Raw: json.RawMessage("{")})
	require.ErrorContains(t, err, `field "raw"`)
	_, err = EverythingCodec().Append(b, &Everything{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.ErrorContains(t, err, `field "at"`)
	_, err = StampedCodec().Append(b, &Stamped{NS: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.ErrorContains(t, err, "use milliseconds")
}

func TestTimesAsNumbers(t *testing.T) {
	t.Parallel()
	c := StampedCodec()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	us := at.Truncate(time.Microsecond)
	in := Stamped{at.Truncate(time.Second), at.Truncate(time.Millisecond), &us, at, at}
	b, err := c.Append(nil, &in)
	require.NoError(t, err)
	require.Equal(t, `{"s":1767323045,"ms":1767323045678,"us":1767323045678901,"ns":1767323045678901234,"r":"2026-01-02T03:04:05.678901234Z"}`, string(b))
	var got Stamped
	require.NoError(t, c.Decode(b, &got))
	require.Equal(t, in, got)
	require.NoError(t, c.Decode([]byte(`{"ms": -1,"s":null,"us":null}`), &got))
	require.Equal(t, time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC), got.MS)
	require.Equal(t, in.S, got.S)
	require.Nil(t, got.US)
	require.Equal(t, "json/fields", c.ID())
}

func TestNothingIsAllocated(t *testing.T) {
	data := []byte(`{"deviceId":"dev-0001234","ts":1699999980000,"temperature":21.53,"humidity":40.50,"fw":"1.4","seq":1000000000}`)
	mixed := []byte(`{ "seq":1000000000, "x":{"y":[1,2,{}]}, "DEVICEID":"dev-0001234","temperature":21.53,"ts" : 1699999980000}`)
	c := ReadingCodec(fields.Alias())
	var v Reading
	b := make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if c.Decode(data, &v) != nil || c.Decode(mixed, &v) != nil {
			panic("decode")
		}
		b, _ = c.Append(b[:0], &v)
	}))
	require.Equal(t, string(data), strings.Replace(string(b), `"humidity":40.5,`, `"humidity":40.50,`, 1))
}
