package codecs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/influx"
	"github.com/millrace-stream/millrace/flow/codec/senml"
	"github.com/millrace-stream/millrace/flow/codec/sparkplug"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// [decode]
func ExampleReadingCodec() {
	c := ReadingCodec()
	var r Reading
	err := c.Decode([]byte(`{"device":"d1","ts":1700000000000,"celsius":21.5,"site":{"name":"north","line":2},"fw":"1.4"}`), &r)
	fmt.Println(r.Device, r.At.UTC().Format(time.TimeOnly), r.Celsius, r.Site.Name, err)
	fmt.Println(c.Decode([]byte(`{"device":"d1","site":{"line":"two"}}`), &r))
	// Output:
	// d1 22:13:20 21.5 north <nil>
	// decode JSON: field "site.line" at byte 30: want a number, got a string
}

// [end]

func TestTheSnippetsAreValid(t *testing.T) {
	cfg := mqtt.Config{Brokers: []string{"tcp://127.0.0.1:1883"}, ClientID: "docs", Topics: []string{"devices/#"}}
	for name, build := range map[string]func(t *flow.Topology){
		"readings":     func(t *flow.Topology) { flow.To(readings(t, cfg), "out", none[Reading]()) },
		"points":       func(t *flow.Topology) { flow.To(points(t, cfg), "out", none[influx.Point]()) },
		"measurements": func(t *flow.Topology) { flow.To(measurements(t, cfg), "out", none[senml.Record]()) },
		"metrics":      func(t *flow.Topology) { flow.To(metrics(t, cfg), "out", none[sparkplug.Reading]()) },
	} {
		top := flow.New(name, flow.WithStore(state.InMemory()))
		build(top)
		require.NoError(t, top.Validate(), name)
	}
	l := &lastSite{}
	l.remember(Reading{Site: Site{Name: "north"}})
	require.Equal(t, "north", l.name)
}

func none[T any]() flow.Sink[T] {
	return flow.SinkFunc(func(context.Context, []flow.Record[T]) error { return nil })
}
