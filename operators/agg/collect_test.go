package agg_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

func TestCollectAtItsLimit(t *testing.T) {
	t.Parallel()
	in := temps(1, 2, 3, 4, 5)
	got := fold(t, agg.Collect(reading.temperature, 3, agg.KeepFirst), in)
	require.Equal(t, agg.Collected[float64]{Values: []float64{1, 2, 3}, Dropped: 2}, got)
	got = fold(t, agg.Collect(reading.temperature, 3, agg.KeepLast), in)
	require.Equal(t, agg.Collected[float64]{Values: []float64{3, 4, 5}, Dropped: 2}, got)
	got = fold(t, agg.Collect(reading.temperature, 5, agg.KeepLast), in)
	require.Equal(t, agg.Collected[float64]{Values: []float64{1, 2, 3, 4, 5}}, got)
	require.Zero(t, fold(t, agg.Collect(reading.temperature, 5, agg.KeepFirst), nil))
}

// TestCollectOwnsItsValues: neither the payload that a value aliased nor the result that was handed out may change what is kept.
func TestCollectOwnsItsValues(t *testing.T) {
	t.Parallel()
	payload := []byte("abc")
	s := agg.Collect(reading.device, 4, agg.KeepLast).NewStore()
	at := s.AllocBlock()
	s.Add(at, &flow.Record[reading]{Value: reading{Device: unsafeString(payload)}})
	copy(payload, "xyz")
	got := s.Result(at)
	require.Equal(t, []string{"abc"}, got.Values)
	got.Values[0] = "mine"
	require.Equal(t, []string{"abc"}, s.Result(at).Values)
	s.FreeBlock(at)
	require.Zero(t, s.Result(s.AllocBlock()))
}

// rereads reads b as two accumulators; what is taken must be written so that it reads the same.
func rereads[R any](t require.TestingT, a agg.Aggregate[reading, R], b []byte) {
	s := a.NewStore()
	first := s.AllocBlock()
	slots := []agg.Slot{first, first + 1}
	rest, err := s.Read(b, slots)
	if err != nil {
		return
	}
	require.True(t, bytes.HasSuffix(b, rest))
	once := s.Append(nil, slots)
	again := a.NewStore()
	again.AllocBlock()
	rest, err = again.Read(once, slots)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, once, again.Append(nil, slots))
	s.AddBatch(repeat(first, 5), temps(1, 2, 3, 4, 5))
	s.Merge(first, first+1)
	s.Result(first)
}

// FuzzReadStdDevAndCollect is FuzzRead without the many columns before these, so that the fuzzer reaches them.
func FuzzReadStdDevAndCollect(f *testing.F) {
	type both struct {
		Dev  float64
		Head agg.Collected[string]
		Tail agg.Collected[int8]
	}
	a := agg.Into(
		agg.To(func(b *both) *float64 { return &b.Dev }, agg.StdDev(reading.temperature)),
		agg.To(func(b *both) *agg.Collected[string] { return &b.Head }, agg.Collect(reading.device, 3, agg.KeepFirst)),
		agg.To(func(b *both) *agg.Collected[int8] { return &b.Tail }, agg.Collect(reading.level, 3, agg.KeepLast)),
	)
	s := a.NewStore()
	at := s.AllocBlock()
	s.AddBatch(repeat(at, 5), temps(1, 2, 3, 4, 5))
	f.Add(s.Append(nil, []agg.Slot{at, at + 1}))
	f.Fuzz(func(t *testing.T, b []byte) { rereads(t, a, b) })
}
