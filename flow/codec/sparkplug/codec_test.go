package sparkplug_test

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millrace-stream/millrace/flow/codec/sparkplug"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// values has one of each type of number, text and bytes.
func values() []sparkplug.Value {
	return []sparkplug.Value{
		sparkplug.IntOf(sparkplug.Int8, -128), sparkplug.IntOf(sparkplug.Int16, math.MinInt16), sparkplug.IntOf(sparkplug.Int32, -1),
		sparkplug.IntOf(sparkplug.Int64, math.MinInt64), sparkplug.UintOf(sparkplug.UInt8, 255), sparkplug.UintOf(sparkplug.UInt16, math.MaxUint16),
		sparkplug.UintOf(sparkplug.UInt32, math.MaxUint32), sparkplug.UintOf(sparkplug.UInt64, math.MaxUint64), sparkplug.FloatOf(0.1),
		sparkplug.DoubleOf(-0.1), sparkplug.BoolOf(true), sparkplug.BoolOf(false), sparkplug.StringOf("text"), sparkplug.TimeOf(at),
		sparkplug.BytesOf([]byte{0, 1}), sparkplug.NullOf(sparkplug.Double), {Type: sparkplug.UUID, Text: "u"},
		{Type: sparkplug.Int16Array, Bytes: []byte{1, 0, 0xff, 0xff}},
	}
}

func payload(t require.TestingT) sparkplug.Payload {
	p := sparkplug.Payload{Timestamp: at.UnixMilli(), Seq: 255, HasSeq: true, UUID: "id", Body: []byte{}}
	for i, v := range values() {
		m, err := sparkplug.NewMetric("metric", v)
		require.NoError(t, err)
		m.Alias, m.HasAlias, m.Timestamp = uint64(i), true, int64(i)
		m.Historical, m.Transient, m.Properties, m.MetaData = i == 0, i == 1, []byte{8, 1}, []byte{}
		p.Metrics = append(p.Metrics, m)
	}
	return p
}

func TestBringsBackWhatWentIn(t *testing.T) {
	t.Parallel()
	c := sparkplug.Codec()
	p := payload(t)
	b, err := c.Append([]byte("prefix"), &p)
	require.NoError(t, err)
	var got sparkplug.Payload
	require.NoError(t, c.Decode(b[6:], &got))
	clear(b)
	require.Equal(t, p, got, "nothing of the payload is kept")
	for i, v := range values() {
		back, err := got.Metrics[i].Value(sparkplug.Unknown)
		require.NoError(t, err)
		require.Equal(t, v, back)
	}
	require.Equal(t, "sparkplug-b", c.ID())
}

func TestNumbersOfValues(t *testing.T) {
	t.Parallel()
	for i, want := range []float64{-128, math.MinInt16, -1, math.MinInt64, 255, math.MaxUint16, math.MaxUint32, math.MaxUint64, float64(float32(0.1)), -0.1, 1, 0} {
		got, ok := values()[i].Number()
		require.True(t, ok)
		require.InDelta(t, want, got, 0)
	}
	for _, v := range []sparkplug.Value{sparkplug.StringOf("1"), sparkplug.NullOf(sparkplug.Int8)} {
		_, ok := v.Number()
		require.False(t, ok)
	}
	le := binary.LittleEndian
	for typ, b := range map[sparkplug.DataType][]byte{
		sparkplug.Int8Array: {2, 0xff}, sparkplug.UInt8Array: {2, 255}, sparkplug.Int16Array: {2, 0, 0xff, 0xff}, sparkplug.UInt16Array: {2, 0, 255, 0},
		sparkplug.Int32Array: le.AppendUint32(le.AppendUint32(nil, 2), math.MaxUint32), sparkplug.UInt32Array: le.AppendUint32(le.AppendUint32(nil, 2), 255),
		sparkplug.Int64Array: le.AppendUint64(le.AppendUint64(nil, 2), math.MaxUint64), sparkplug.UInt64Array: le.AppendUint64(le.AppendUint64(nil, 2), 255),
		sparkplug.DateTimeArray: le.AppendUint64(le.AppendUint64(nil, 2), math.MaxUint64),
		sparkplug.FloatArray:    le.AppendUint32(le.AppendUint32(nil, math.Float32bits(2)), math.Float32bits(255)),
		sparkplug.DoubleArray:   le.AppendUint64(le.AppendUint64(nil, math.Float64bits(2)), math.Float64bits(-1)),
	} {
		got, ok := sparkplug.Value{Type: typ, Bytes: b}.Numbers()
		require.True(t, ok, typ)
		require.Len(t, got, 2)
		require.InDelta(t, 2, got[0], 0)
		require.Contains(t, []float64{-1, 255}, got[1])
		if len(b) > 2 {
			_, ok = sparkplug.Value{Type: typ, Bytes: b[1:]}.Numbers()
			require.False(t, ok, typ)
		}
	}
	got, ok := sparkplug.Value{Type: sparkplug.BooleanArray, Bytes: []byte{10, 0, 0, 0, 0b01010000, 0b01000000}}.Numbers()
	require.True(t, ok)
	require.Equal(t, []float64{0, 1, 0, 1, 0, 0, 0, 0, 0, 1}, got)
	_, ok = sparkplug.Value{Type: sparkplug.BooleanArray, Bytes: []byte{255, 255, 255, 255, 1}}.Numbers()
	require.False(t, ok)
}

// TestForeignIntegers has integers as implementations write them: small types in 8 bits or sign-extended, unsigned ones in long_value.
func TestForeignIntegers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ  sparkplug.DataType
		wire sparkplug.Wire
		bits uint64
		want float64
	}{
		{sparkplug.Int8, sparkplug.WireInt, 0xff, -1}, {sparkplug.Int8, sparkplug.WireInt, 0xffffffff, -1}, {sparkplug.Int8, sparkplug.WireLong, math.MaxUint64, -1},
		{sparkplug.Int64, sparkplug.WireInt, 0xffffffff, -1}, {sparkplug.UInt32, sparkplug.WireLong, math.MaxUint32, math.MaxUint32}, {sparkplug.Int32, sparkplug.WireLong, math.MaxUint32, -1},
		{sparkplug.Double, sparkplug.WireFloat, uint64(math.Float32bits(1.5)), 1.5},
	} {
		v, err := (&sparkplug.Metric{Type: c.typ, Wire: c.wire, Bits: c.bits}).Value(sparkplug.Unknown)
		require.NoError(t, err)
		got, ok := v.Number()
		require.True(t, ok)
		require.InDelta(t, c.want, got, 0)
	}
	for _, m := range []sparkplug.Metric{
		{Type: sparkplug.Int8, Wire: sparkplug.WireInt, Bits: 256}, {Type: sparkplug.UInt8, Wire: sparkplug.WireInt, Bits: 256}, {Type: sparkplug.Int8, Wire: sparkplug.WireString},
		{Type: sparkplug.Double, Wire: sparkplug.WireInt}, {Type: sparkplug.Boolean, Wire: sparkplug.WireInt}, {Type: sparkplug.DataSet, Wire: sparkplug.WireBytes}, {Wire: sparkplug.WireInt}, {Type: 99},
	} {
		_, err := m.Value(sparkplug.Unknown)
		require.ErrorContains(t, err, "metric of alias 0: ")
	}
	for _, v := range []sparkplug.Value{sparkplug.IntOf(sparkplug.Int8, 128), sparkplug.UintOf(sparkplug.UInt8, 256), {Type: sparkplug.PropertySet}, {}} {
		_, err := sparkplug.NewMetric("x", v)
		require.ErrorContains(t, err, `metric "x": `)
	}
}

func TestRejects(t *testing.T) {
	t.Parallel()
	metric := func(b ...byte) []byte { return append([]byte{0x08, 1, 0x12, byte(len(b))}, b...) }
	for name, x := range map[string]struct {
		data []byte
		want string
	}{
		"cut":       {[]byte{0x08}, `field "payload.1" at byte 1: the payload ends within it: it is cut`},
		"tag":       {[]byte{0x08, 1, 0x07}, `field "payload" at byte 2: no field tag`},
		"cut name":  {metric(0x0a, 5, 'a'), `field "metrics.1" at byte 5: the payload ends within it`},
		"not UTF-8": {metric(0x0a, 1, 0xff), `field "metrics.name" at byte 6: the text is not UTF-8`},
		"type":      {metric(0x20, 99), `field "metrics.datatype" at byte 5: the data type 99 is not known`},
		"wire type": {metric(0x0d, 0, 0, 0, 0), `field "metrics.name" at byte 5: wire type 5, want 2`},
		"value":     {metric(0x60, 1), `field "metrics.value" at byte 5: wire type 0, want 5`},
		"seq":       {[]byte{0x18, 0x80, 2}, `field "seq" at byte 1: the sequence number 256 is not within 0 to 255`},
		"time":      {append([]byte{0x08}, protowire.AppendVarint(nil, math.MaxUint64)...), `field "timestamp" at byte 1: a time`},
		"json":      {[]byte(`{"online":true}`), "at byte"},
		"many":      {[]byte(strings.Repeat("\x12\x00", sparkplug.MaxMetrics+1)), "more than 100000 metrics"},
	} {
		err := sparkplug.Codec().Decode(x.data, &sparkplug.Payload{})
		require.ErrorContains(t, err, x.want, name)
		require.ErrorContains(t, err, "decode Sparkplug payload: ")
	}
	_, err := sparkplug.Codec().Append(nil, &sparkplug.Payload{Seq: 256, HasSeq: true})
	require.ErrorContains(t, err, "not within 0 to 255")
}

func TestDataSets(t *testing.T) {
	t.Parallel()
	str := func(b []byte, num protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
	}
	row := func(n uint64, s string) string {
		return string(str(str(nil, 1, string(protowire.AppendVarint([]byte{0x08}, n))), 1, string(str(nil, 6, s))))
	}
	b := str(str([]byte{0x08, 2}, 2, "n"), 2, "s")
	b = append(b, 0x18, byte(sparkplug.Int8), 0x18, byte(sparkplug.String))
	set := sparkplug.Value{Type: sparkplug.DataSet, Bytes: str(str(b, 4, row(1, "a")), 4, row(0xff, "b"))}
	table, err := set.Table()
	require.NoError(t, err)
	require.Equal(t, sparkplug.Table{Columns: []string{"n", "s"}, Types: []sparkplug.DataType{sparkplug.Int8, sparkplug.String}, Rows: [][]sparkplug.Value{
		{sparkplug.IntOf(sparkplug.Int8, 1), sparkplug.StringOf("a")}, {sparkplug.IntOf(sparkplug.Int8, -1), sparkplug.StringOf("b")}}}, table)
	packed := set
	packed.Bytes = str(str(str([]byte{0x08, 2}, 2, "n"), 2, "s"), 3, string([]byte{byte(sparkplug.Int8), byte(sparkplug.String)}))
	table, err = packed.Table()
	require.NoError(t, err)
	require.Len(t, table.Types, 2)

	for want, bytes := range map[string][]byte{
		"2 columns have 1 types":                b[:len(b)-2],
		"row 1: 1 values for 2 columns":         str(b, 4, string(str(nil, 1, "\x08\x01"))),
		"row 1: more values than the 2 columns": str(b, 4, row(1, "a")+row(1, "a")),
		"row 1: metric \"n\"":                   str(b, 4, string(str(nil, 1, string(str(nil, 6, "x"))))),
		"field \"dataset.columns\" at byte":     str(nil, 2, "\xff"),
		"more than 100000 values":               []byte(string(b) + strings.Repeat("\x22\x00", 60_000)),
	} {
		_, err := sparkplug.Value{Type: sparkplug.DataSet, Bytes: bytes}.Table()
		require.ErrorContains(t, err, want)
	}
	_, err = sparkplug.StringOf("x").Table()
	require.ErrorContains(t, err, "not a data set")
}

func TestTopics(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]sparkplug.Topic{
		"spBv1.0/g/NBIRTH/n":  {Group: "g", Type: sparkplug.NBirth, Node: "n"},
		"spBv1.0/g/DDATA/n/d": {Group: "g", Type: sparkplug.DData, Node: "n", Device: "d"},
	} {
		got, err := sparkplug.ParseTopic(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, s, got.String())
		require.Equal(t, "g/n", got.EdgeNode())
	}
	for s, want := range map[string]string{
		"": "must begin with spBv1.0/", "spAv1.0/g/NBIRTH/n": "must begin with", "spBv1.0/STATE/host": "leaves it out", "spBv1.0/g/NBIRTH": "3 levels",
		"spBv1.0/g/X/n": `type "X" is not known`, "spBv1.0/g/NDATA/n/d": "a device is named", "spBv1.0/g/DDATA/n": "a device is named", "spBv1.0//NDATA/n": "must not be empty",
		"spBv1.0/g/NDATA/n/d/e": "6 levels",
	} {
		_, err := sparkplug.ParseTopic(s)
		require.ErrorContains(t, err, want, s)
	}
}

func FuzzSparkplug(f *testing.F) {
	c := sparkplug.Codec()
	p := payload(f)
	b, err := c.Append(nil, &p)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0x08, 1, 0x12, 2, 0x20, 9, 0x18, 5})
	f.Add([]byte(`{"online":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back sparkplug.Payload
		if c.Decode(data, &v) != nil {
			return
		}
		for i := range v.Metrics {
			if x, err := v.Metrics[i].Value(sparkplug.Unknown); err == nil {
				x.Number()
				x.Numbers()
				_, _ = x.Table()
			}
		}
		b, err := c.Append(nil, &v)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b, &back))
		require.Equal(t, v, back)
	})
}

// TestReadsAnotherImplementation has a birth that was written by the Python library pysparkplug 0.6.1.
func TestReadsAnotherImplementation(t *testing.T) {
	t.Parallel()
	data, err := hex.DecodeString("08fbd095ffbc3112120a02693810011880d095ffbc31200150fb0112160a0369333210021880d095ffbc3120035090ddfbff0f121b0a0369363410031880d095ff" +
		"bc312004588080808080e0ffffff0112160a0375333210041880d095ffbc3120075080d0acf30e121b0a0375363410051880d095ffbc312008588080808080808080800112130a01661006" +
		"1880d095ffbc312009650000c03f12170a016410071880d095ffbc31200a699a9999999999b9bf12100a016210081880d095ffbc31200b700112140a017310091880d095ffbc31200c7a0474" +
		"65787412150a0174100a1880d095ffbc31200d58e8d795ffbc3112120a016e100b1880d095ffbc31200a2801380112130a0178100c1880d095ffbc31201182010200011800")
	require.NoError(t, err)
	var p sparkplug.Payload
	require.NoError(t, sparkplug.Codec().Decode(data, &p))
	require.Equal(t, int64(1700000000123), p.Timestamp)
	require.True(t, p.HasSeq)
	require.Zero(t, p.Seq)
	want := map[string]sparkplug.Value{
		"i8": sparkplug.IntOf(sparkplug.Int8, -5), "i32": sparkplug.IntOf(sparkplug.Int32, -70000), "i64": sparkplug.IntOf(sparkplug.Int64, -1<<40),
		"u32": sparkplug.UintOf(sparkplug.UInt32, 4000000000), "u64": sparkplug.UintOf(sparkplug.UInt64, 1<<63), "f": sparkplug.FloatOf(1.5), "d": sparkplug.DoubleOf(-0.1),
		"b": sparkplug.BoolOf(true), "s": sparkplug.StringOf("text"), "t": sparkplug.TimeOf(time.Unix(1700000001, 0)), "n": sparkplug.NullOf(sparkplug.Double),
		"x": sparkplug.BytesOf([]byte{0, 1}),
	}
	require.Len(t, p.Metrics, len(want))
	for i := range p.Metrics {
		m := &p.Metrics[i]
		v, err := m.Value(sparkplug.Unknown)
		require.NoError(t, err)
		require.Equal(t, want[m.Name], v, m.Name)
		require.Equal(t, uint64(i+1), m.Alias)
		require.Equal(t, int64(1700000000000), m.Timestamp)
		require.Equal(t, m.Name == "n", m.Historical)
	}
}
