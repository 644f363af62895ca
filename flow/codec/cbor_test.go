package codec_test

import (
	"math"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
)

type kept struct {
	Name   string
	Floats []float64
	At     time.Time
	Addr   netip.Addr
	Big    big.Int
	Seen   map[string]int64
	Sub    *kept
	Raw    []byte
	Wide   uint64
	Long   []int32
	Secret func() `cbor:"-"`
	embedded
}

type embedded struct{ Inner int }

func TestCBORBringsBackWhatWentIn(t *testing.T) {
	t.Parallel()
	c := codec.CBOR[kept]()
	v := kept{
		Name:     "bad utf-8 \xff",
		Floats:   []float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), 5e-324, 0.1},
		At:       time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("", 5400)),
		Addr:     netip.MustParseAddr("::1"),
		Big:      *new(big.Int).Lsh(big.NewInt(-3), 200),
		Seen:     map[string]int64{"b": math.MinInt64, "a": math.MaxInt64},
		Sub:      &kept{Name: "sub", At: time.Unix(0, 1).UTC()},
		Raw:      []byte{0, 255},
		Wide:     math.MaxUint64,
		Long:     make([]int32, 200_000),
		embedded: embedded{5},
	}
	b, err := c.Append([]byte("prefix"), &v)
	require.NoError(t, err)
	var got kept
	require.NoError(t, c.Decode(b[6:], &got))
	require.True(t, v.At.Equal(got.At))
	require.Equal(t, v.At.Format(time.RFC3339Nano), got.At.Format(time.RFC3339Nano))
	for i := range v.Floats {
		require.Equal(t, math.Float64bits(v.Floats[i]), math.Float64bits(got.Floats[i]))
	}
	require.Zero(t, v.Big.Cmp(&got.Big))
	require.True(t, v.Sub.At.Equal(got.Sub.At))
	again, err := c.Append([]byte("prefix"), &got)
	require.NoError(t, err)
	require.Equal(t, b, again, "equal values have identical bytes")
	got.At, got.Floats, got.Sub.At, got.Big = v.At, v.Floats, v.Sub.At, v.Big
	v.Floats, got.Floats = nil, nil
	require.Equal(t, v, got)
	for i := range b {
		b[i] = '#'
	}
	require.Equal(t, v, got, "nothing of the payload is kept")
}

func TestCBOROfDevices(t *testing.T) {
	t.Parallel()
	type device struct {
		Name string    `json:"n"`
		C    float64   `cbor:"1,keyasint"`
		List []float32 `json:"l"`
		At   time.Time `json:"t"`
	}
	// Maps, arrays and texts of indefinite length, floats of 16 bits and integers for floats, seconds for a time, a field that is not known.
	data := []byte("\xbf\x61n\x7f\x61a\x61b\xff\x01\x15\x61l\x9f\xf9\x3e\x00\x20\xff\x61t\x1a\x65\x53\xf1\x00\x61x\x9f\xbf\xff\xff\xff")
	var got device
	require.NoError(t, codec.CBOR[device]().Decode(data, &got))
	require.True(t, got.At.Equal(time.Unix(1700000000, 0)))
	got.At = time.Time{}
	require.Equal(t, device{Name: "ab", C: 21, List: []float32{1.5, -1}}, got)
}

func TestCBOREvolves(t *testing.T) {
	t.Parallel()
	type v1 struct {
		A int
		B string
	}
	type v2 struct {
		C float64
		X int `cbor:"A"`
	}
	b, err := codec.CBOR[v1]().Append(nil, &v1{7, "gone"})
	require.NoError(t, err)
	var got v2
	require.NoError(t, codec.CBOR[v2]().Decode(b, &got))
	require.Equal(t, v2{X: 7}, got)
	type v3 struct{ A bool }
	require.ErrorContains(t, codec.CBOR[v3]().Decode(b, &v3{}), "decode CBOR")
}

func TestCBORRefusesWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	type hidden struct {
		Sub []struct{ secret int }
	}
	type loose struct{ V any }
	_, err := codec.CBOR[hidden]().Append(nil, &hidden{})
	require.ErrorContains(t, err, "unexported field Sub.secret")
	require.ErrorContains(t, codec.CBOR[loose]().Decode([]byte{0xa0}, &loose{}), "field V")
	_, err = codec.CBOR[chan int]().Append(nil, new(chan int))
	require.ErrorContains(t, err, "the value itself")
	type later struct{ At time.Time }
	_, err = codec.CBOR[later]().Append(nil, &later{time.Unix(1e12, 0)})
	require.ErrorContains(t, err, "year")
}

func TestCBORRejects(t *testing.T) {
	t.Parallel()
	c := codec.CBOR[kept]()
	require.ErrorContains(t, c.Decode(nil, &kept{}), "empty")
	require.ErrorIs(t, c.Decode([]byte{0xa0, 0x00}, &kept{}), codec.ErrTrailing)
	require.Error(t, c.Decode([]byte{0xa1}, &kept{}), "cut")
	require.Error(t, c.Decode([]byte("\xa2\x64Wide\x01\x64Wide\x02"), &kept{}), "repeated key")
	require.Error(t, c.Decode([]byte("\xa1\x66Floats\x9b\x00\x00\x00\x7f\xff\xff\xff\xff"), &kept{}), "an array that is not there")
}

func FuzzCBOR(f *testing.F) {
	c := codec.CBOR[kept]()
	b, err := c.Append(nil, &kept{Name: "a", Floats: []float64{1, math.NaN()}, At: time.Unix(5, 6), Sub: &kept{}})
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back kept
		if c.Decode(data, &v) != nil {
			return
		}
		b, err := c.Append(nil, &v)
		if err != nil {
			require.ErrorContains(t, err, "year")
			return
		}
		require.NoError(t, c.Decode(b, &back))
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}
