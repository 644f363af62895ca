package agg_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

func TestArgMinAndArgMax(t *testing.T) {
	t.Parallel()
	r := func(device string, temperature float64, at flow.Timestamp) flow.Record[reading] {
		return flow.Record[reading]{Value: reading{Device: device, Temperature: temperature}, Time: at}
	}
	nan := math.NaN()
	for name, c := range map[string]struct {
		in           []flow.Record[reading]
		least, most  string
		lowest, tops []string
	}{
		"nothing":         {nil, "", "", nil, nil},
		"some":            {[]flow.Record[reading]{r("a", 2, 1), r("b", 5, 2), r("c", -1, 3)}, "c", "b", []string{"c", "a"}, []string{"b", "a"}},
		"equal":           {[]flow.Record[reading]{r("a", 2, 3), r("b", 2, 1), r("c", 2, 2)}, "b", "b", []string{"b", "c"}, []string{"b", "c"}},
		"equal times":     {[]flow.Record[reading]{r("a", 2, 1), r("b", 2, 1), r("c", 2, 1)}, "a", "a", []string{"a", "b"}, []string{"a", "b"}},
		"no time":         {[]flow.Record[reading]{r("a", 2, -5), r("b", 2, flow.None)}, "b", "b", []string{"b", "a"}, []string{"b", "a"}},
		"zeros are equal": {[]flow.Record[reading]{r("a", 0, 2), r("b", math.Copysign(0, -1), 1)}, "b", "b", []string{"b", "a"}, []string{"b", "a"}},
		"NaN":             {[]flow.Record[reading]{r("a", nan, 1), r("b", 5, 2), r("c", nan, 0)}, "b", "b", []string{"b"}, []string{"b"}},
		"NaN alone":       {[]flow.Record[reading]{r("a", nan, 2), r("b", nan, 1)}, "b", "b", nil, nil},
		"infinities":      {[]flow.Record[reading]{r("a", math.Inf(1), 1), r("b", 5, 2), r("c", math.Inf(-1), 3)}, "c", "a", []string{"c", "b"}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.least, fold(t, agg.ArgMin(reading.temperature, reading.device), c.in))
			require.Equal(t, c.most, fold(t, agg.ArgMax(reading.temperature, reading.device), c.in))
			require.Equal(t, c.lowest, fold(t, agg.Smallest(reading.temperature, reading.device, 2), c.in))
			require.Equal(t, c.tops, fold(t, agg.Largest(reading.temperature, reading.device, 2), c.in))
		})
	}
	whole := agg.ArgMax(reading.device, agg.Itself)
	require.Equal(t, 3.0, fold(t, whole, []flow.Record[reading]{r("x", 3, 1), r("b", 5, 2)}).Temperature)
}

// TestRankedValuesAreCopies: neither the payload that a measure or a value aliased nor a result that was handed out changes what is kept.
func TestRankedValuesAreCopies(t *testing.T) {
	t.Parallel()
	payload := []byte("mmm")
	alias := flow.Record[reading]{Value: reading{Device: unsafeString(payload)}}
	arg := agg.ArgMax(reading.device, reading.device).NewStore()
	top := agg.Largest(reading.device, reading.device, 3).NewStore()
	a, b := arg.AllocBlock(), top.AllocBlock()
	arg.Add(a, &alias)
	top.Add(b, &alias)
	copy(payload, "zzz")
	more := flow.Record[reading]{Value: reading{Device: "nnn"}}
	arg.Add(a, &more)
	top.Add(b, &more)
	require.Equal(t, "nnn", arg.Result(a))
	require.Equal(t, []string{"nnn", "mmm"}, top.Result(b))
	top.Result(b)[0] = "mine"
	require.Equal(t, []string{"nnn", "mmm"}, top.Result(b))
}

func TestArgMinAllocatesNothing(t *testing.T) {
	in := temps(2, -1, 5, 2)
	arg := agg.ArgMin(reading.temperature, reading.level).NewStore()
	top := agg.Largest(reading.temperature, reading.level, 2).NewStore()
	hist := agg.Histogram(reading.temperature, 0, 1, 2).NewStore()
	slots := repeat(0, len(in))
	for _, s := range []interface {
		AllocBlock() agg.Slot
		AddBatch([]agg.Slot, []flow.Record[reading])
	}{arg, top, hist} {
		s.AllocBlock()
		s.AddBatch(slots, in)
		require.Zero(t, testing.AllocsPerRun(100, func() { s.AddBatch(slots, in) }))
	}
}
