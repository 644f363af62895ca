package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// sieve emits even numbers with their key, and odd ones without.
type sieve struct {
	keys    flow.Keys[string]
	screens bool
	tried   bool
}

func (s *sieve) Open(_ context.Context, rt flow.Runtime) error { return flow.OpenKeys(rt, &s.keys) }

func (s *sieve) Screens() bool { return s.screens }

func (s *sieve) Screen(in []flow.Record[int], notes []flow.Note) {
	for i := range in {
		n := in[i].Value
		if n%7 == 0 {
			panic("seven")
		}
		notes[i] = flow.Note(n % 5)
		if n%2 == 0 {
			notes[i] |= flow.NeedsKey
		}
	}
}

func (s *sieve) ProcessScreened(_ context.Context, keys []flow.Slot, notes []flow.Note, in []flow.Record[int], out *flow.Output[string]) (int, error) {
	for i := range in {
		n := in[i].Value
		switch {
		case int(notes[i]&^flow.NeedsKey) != n%5:
			return i, fmt.Errorf("the note of %d is that of another: %d", n, notes[i])
		case n == 10:
			return i, errors.New("ten")
		case n == 12 && !s.tried:
			s.tried = true
			return i, flow.Transient(errors.New("not now"))
		case notes[i]&flow.NeedsKey != 0:
			*out.Next(0, nil) = fmt.Sprintf("%d of %s", n, s.keys.Key(keys[i]))
		default:
			*out.Next(0, nil) = fmt.Sprint(n)
		}
	}
	return len(in), nil
}

func (s *sieve) ProcessBatch(ctx context.Context, keys []flow.Slot, in []flow.Record[int], out *flow.Output[string]) (int, error) {
	for i := range in {
		if in[i].Value%7 == 0 {
			return i, errors.New("seven")
		}
		notes := make([]flow.Note, 1)
		s.Screen(in[i:i+1], notes)
		if _, err := s.ProcessScreened(ctx, keys[i:i+1], notes, in[i:i+1], out); err != nil {
			return i, err
		}
	}
	return len(in), nil
}

func (s *sieve) Process(ctx context.Context, key string, r *flow.Record[int], out *flow.Output[string]) error {
	_, err := s.ProcessBatch(ctx, []flow.Slot{s.keys.Find(key)}, []flow.Record[int]{*r}, out)
	return err
}

// TestScreen has records looked up only where the operator needs their keys, with errors in all places.
func TestScreen(t *testing.T) {
	for _, par := range []int{1, 3} {
		for _, screens := range []bool{true, false} {
			for _, alone := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d tasks, screens %v, alone %v", par, screens, alone), func(t *testing.T) {
					asked := flowtest.NewSink[string]()
					src, out, dead := flowtest.NewSource[int](), flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
					r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
						top := flow.New("sieve", append(opts, flow.WithParallelism(par))...)
						keyed := flow.KeyBy(flow.From(top, "in", src), func(n int) string {
							if n == 4 || n == 5 {
								panic("no key")
							}
							return string(rune('a' + n%3))
						})
						flow.To(flow.ApplyKeyed[string, int, string](keyed, "sieve", func() *sieve { return &sieve{screens: screens} }), "out", out)
						if !alone {
							flow.To(flow.ApplyKeyed[string, int, string](keyed, "other", func() *sieve { return &sieve{} }), "others", asked)
						}
						flow.To(top.DeadLetters(), "dead", dead)
						return top
					}, src)
					numbers := make([]int, 3000)
					for i := range numbers {
						numbers[i] = i + 1
					}
					src.Feed(numbers...)
					advancing(r.Clock, 1e9, r.Epoch)
					var want, gone []string
					for _, n := range numbers {
						switch {
						case n%7 == 0 || n == 10 || n == 4:
							gone = append(gone, fmt.Sprint(n))
						case n == 5:
							// Its key is asked for by an exchange, and by what needs all keys.
							if par == 1 && screens && alone {
								want = append(want, "5")
							} else {
								gone = append(gone, "5")
							}
						case n%2 == 0:
							want = append(want, fmt.Sprintf("%d of %c", n, 'a'+n%3))
						default:
							want = append(want, fmt.Sprint(n))
						}
					}
					got := out.Values()
					if par > 1 {
						slices.Sort(got)
						slices.Sort(want)
					}
					require.Equal(t, want, got)
					letters := map[string]string{}
					for _, l := range dead.Values() {
						if l.Node != "other" {
							var n int
							require.NoError(t, cbor.Unmarshal(l.Record, &n))
							letters[fmt.Sprint(n)] = l.Cause
						}
					}
					require.Len(t, letters, len(gone))
					for _, n := range gone {
						require.Contains(t, letters, n)
					}
					require.Contains(t, letters["4"], "no key")
					require.Contains(t, letters["7"], "seven")
					require.Equal(t, "ten", letters["10"])
					r.Stop()
				})
			}
		}
	}
}
