package operators_test

import (
	"context"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

type named struct {
	Key   string
	Names [2]string
	N     int
}

func (n named) key() string { return n.Key }

// State keeps strings of its own: one that lies in a payload would keep the whole payload in memory. What has not changed is not copied again.
func TestStateHasStringsOfItsOwn(t *testing.T) {
	payload := "k" + "first" + "second" + string(make([]byte, 1000))
	in := func(n int) named { return named{payload[:1], [2]string{payload[1:6], payload[6:12]}, n} }
	inPayload := func(s string) bool {
		p, from := uintptr(unsafe.Pointer(unsafe.StringData(s))), uintptr(unsafe.Pointer(unsafe.StringData(payload)))
		return p >= from && p < from+uintptr(len(payload))
	}
	run := func(build func(flow.KeyedStream[string, named]) flow.Stream[named]) {
		src := flowtest.NewSource[named]()
		src.Feed(in(1), in(2), in(3))
		src.End()
		top := flow.New("strings", flow.WithStore(state.InMemory()))
		flow.To(build(flow.KeyBy(flow.From(top, "in", src), named.key)), "out", flowtest.NewSink[named]())
		require.NoError(t, top.Run(context.Background()))
	}
	var names []string
	run(func(s flow.KeyedStream[string, named]) flow.Stream[named] {
		return operators.Reduce(s, "op", func(acc, v named) named {
			names = append(names, acc.Key, acc.Names[0], acc.Names[1])
			return v
		})
	})
	require.Len(t, names, 6)
	run(func(s flow.KeyedStream[string, named]) flow.Stream[named] {
		return operators.Stateful(s, "op", 0, func(_ context.Context, c *operators.Cell[string, named, named], v named) error {
			if !c.New() {
				names = append(names, c.State.Key, c.State.Names[0], c.State.Names[1])
			}
			*c.State = v
			return nil
		})
	})
	require.Len(t, names, 12)
	for i, s := range names {
		require.Equal(t, []string{"k", "first", "second"}[i%3], s)
		require.False(t, inPayload(s), s)
	}
	require.Equal(t, unsafe.StringData(names[1]), unsafe.StringData(names[4]), "it has not changed")
	require.Equal(t, unsafe.StringData(names[7]), unsafe.StringData(names[10]), "it has not changed")
}

// A state without contents has timers all the same.
func TestStatefulOfNothing(t *testing.T) {
	type cell = operators.Cell[string, struct{}, string]
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: []event{{"a", 1, 0}, {"b", 1, 3}, {"a", 1, 4}, {"c", 1, 30}}, Want: []string{"b", "a", "c"}, Key: func(s string) string { return s },
		Build: func(s flow.Stream[event]) flow.Stream[string] {
			return operators.Stateful(flow.KeyBy(timed(s), event.key), "op", 0, func(_ context.Context, c *cell, _ event) error {
				c.SetTimer(c.Time().Add(10e9))
				return nil
			}, operators.OnTimer(func(_ context.Context, c *cell, _ flow.Timestamp) error {
				c.Emit(c.Key())
				return nil
			}))
		},
	})
}
