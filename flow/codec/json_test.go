package codec_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
)

type reading struct {
	DeviceID    string            `json:"deviceId"`
	TS          int64             `json:"ts"`
	Temperature float64           `json:"temperature"`
	Humidity    *float64          `json:"humidity,omitempty"`
	Firmware    string            `json:"fw"`
	Seq         uint32            `json:"seq"`
	OK          bool              `json:"ok"`
	Tags        []string          `json:"tags"`
	Labels      map[string]string `json:"labels"`
	Raw         json.RawMessage   `json:"raw"`
	Number      json.Number       `json:"number"`
	Any         any               `json:"any"`
	Blob        []byte            `json:"blob"`
	At          time.Time         `json:"at"`
	Nested      struct {
		Name string `json:"name"`
	} `json:"nested"`
}

const sample = `{"deviceId":"dev-0001234","ts":1699999980000,"temperature":21.53,"humidity":40.5,"fw":"1.4\u00e9","seq":7,` +
	`"ok":true,"tags":["alpha","beta"],"labels":{"site":"north","line":"2"},"raw":{"x":[1,2]},"number":12.50,` +
	`"any":{"key":["text",1]},"blob":"aGVsbG8=","at":"2026-01-02T03:04:05.678Z","nested":{"name":"inner"}}`

func TestJSONKeepsNothingOfThePayload(t *testing.T) {
	t.Parallel()
	c := codec.JSON[reading]()
	data := []byte(sample)
	var got, want reading
	require.NoError(t, c.Decode(data, &got))
	require.NoError(t, json.Unmarshal([]byte(sample), &want))
	for i := range data {
		data[i] = '#'
	}
	require.Equal(t, want, got)
}

func TestJSONRejects(t *testing.T) {
	t.Parallel()
	c := codec.JSON[reading]()
	for data, want := range map[string]string{
		"":                             "empty",
		" \n\t":                        "empty",
		"{":                            "unexpected end",
		`{"ts":1}x`:                    "data behind the value",
		`{"ts":1} {"ts":2}`:            "data behind the value",
		`{"ts":1}]`:                    "data behind the value",
		`{"ts":"text"}`:                "ts",
		`{"ts":1.5}`:                   "ts",
		`{"temperature":NaN}`:          "invalid character",
		`{"temperature":1e999}`:        "temperature",
		`{"seq":-1}`:                   "seq",
		`{"deviceId":"a` + "\n" + `"}`: "invalid character",
		`{"ts":1,}`:                    "invalid character",
		`{'ts':1}`:                     "invalid character",
		"\x00":                         "invalid character",
	} {
		data := []byte(data)
		var v reading
		err := c.Decode(data, &v)
		require.Error(t, err, "%q", data)
		for i := range data {
			data[i] = '#'
		}
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "JSON")
		require.Equal(t, strings.Contains(want, "behind"), strings.Contains(err.Error(), codec.ErrTrailing.Error()))
		if strings.Contains(want, "behind") {
			require.ErrorIs(t, err, codec.ErrTrailing)
		}
	}
}

func TestJSONTakesSpaceAround(t *testing.T) {
	t.Parallel()
	var v reading
	require.NoError(t, codec.JSON[reading]().Decode([]byte(" {\"ts\":5}\r\n"), &v))
	require.Equal(t, int64(5), v.TS)
}

func TestJSONAppends(t *testing.T) {
	t.Parallel()
	c := codec.JSON[reading]()
	var v reading
	require.NoError(t, c.Decode([]byte(sample), &v))
	v.DeviceID = "<a&b>\xff"
	prefix := []byte("prefix\xff")
	b, err := c.Append(append(make([]byte, 0, 4096), prefix...), &v)
	require.NoError(t, err)
	tight, err := c.Append(bytes.Clone(prefix), &v)
	require.NoError(t, err)
	require.Equal(t, tight, b)
	require.True(t, bytes.HasPrefix(b, prefix))
	require.Contains(t, string(b), `"<a&b>`)
	var back reading
	require.NoError(t, c.Decode(b[len(prefix):], &back))
	require.Equal(t, "<a&b>\ufffd", back.DeviceID)
	back.DeviceID = v.DeviceID
	require.Equal(t, v, back)

	v.Temperature = math.NaN()
	b, err = c.Append(prefix, &v)
	require.ErrorContains(t, err, "encode JSON")
	require.Equal(t, prefix, b)
}

// fuzzed is a reading without the field whose difference is known.
type fuzzed struct {
	reading
	Blob string `json:"blob"`
}

func TestJSONKnownDifference(t *testing.T) {
	t.Parallel()
	data := []byte(`{"blob":"00="}`)
	require.Error(t, json.Unmarshal(data, &reading{}))
	require.NoError(t, codec.JSON[reading]().Decode(data, &reading{}), "the documentation says that they differ here")
	escape := func(n int) []byte { return []byte(`{"unknown":"\ ` + strings.Repeat("a", n) + `"}`) }
	require.Error(t, codec.JSON[reading]().Decode(escape(8), &reading{}))
	require.Error(t, json.Unmarshal(escape(40), &reading{}))
	require.NoError(t, codec.JSON[reading]().Decode(escape(40), &reading{}), "the documentation says that they differ here")
	type raw struct {
		Raw json.RawMessage `json:"raw"`
	}
	var got raw
	require.NoError(t, codec.JSON[raw]().Decode([]byte("{\"raw\":\"\x92\"}"), &got))
	require.Equal(t, "\"\uFFFD\"", string(got.Raw), "the documentation says that they differ here")
}

// FuzzJSON compares with encoding/json: the same inputs are accepted, and mean the same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(sample))
	for _, s := range []string{
		`null`, `{}`, `{"TS":1,"ts":2,"Ts":3}`, `{"deviceId":"\ud800"}`, `{"deviceId":"\u0000\"\\"}`, "{\"deviceId\":\"\xff\"}",
		`{"seq":4294967296}`, `{"ts":9223372036854775808}`, `{"temperature":1e400}`, `{"temperature":-0}`, `{"ts":1e2}`,
		`{"tags":null,"labels":{"a":"b","a":"c"}}`, `{"any":1e999}`, `{"number":""}`, `{"number":"12"}`, `{"raw": [ 1 , 2 ]}`,
		`{"blob":"%%"}`, `{"at":"x"}`, `{"nested":[]}`, `[1]`, `{"ts":01}`, `{"x":{"y":[}]}`, `{"unknown":tru}`, "\ufeff{}",
		"{\"\x01\":1}", `{"unknown":"` + "\x01" + `"}`, `{"unknown":-}`,
	} {
		f.Add([]byte(s))
	}
	c := codec.JSON[fuzzed]()
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want fuzzed
		gotErr, wantErr := c.Decode(data, &got), json.Unmarshal(data, &want)
		if gotErr == nil && wantErr != nil && strings.Contains(wantErr.Error(), " escape") {
			return // in what is passed over
		}
		require.Equal(t, wantErr == nil, gotErr == nil, "%q: %v, encoding/json: %v", data, gotErr, wantErr)
		if gotErr != nil {
			return
		}
		if !utf8.Valid(data) {
			want.Raw = got.Raw // sonic mends it
		}
		require.Equal(t, want, got)
		b, err := c.Append(nil, &got)
		require.NoError(t, err)
		var back fuzzed
		require.NoError(t, json.Unmarshal(b, &back), "%s", b)
	})
}

func BenchmarkJSON(b *testing.B) {
	type plain struct {
		DeviceID    string  `json:"deviceId"`
		TS          int64   `json:"ts"`
		Temperature float64 `json:"temperature"`
		Humidity    float64 `json:"humidity"`
		FW          string  `json:"fw"`
		Seq         int64   `json:"seq"`
	}
	data := []byte(`{"deviceId":"dev-0001234","ts":1699999980000,"temperature":21.53,"humidity":40.50,"fw":"1.4","seq":1000000000}`)
	c := codec.JSON[plain]()
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v plain
			if err := c.Decode(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v plain
			if err := json.Unmarshal(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		var v plain
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			if _, err := c.Append(buf, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
