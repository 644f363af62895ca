package watermill_test

import (
	"context"
	"fmt"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/sinks/watermill"
)

type alarm struct {
	ID     string `json:"id"`
	Device string `json:"device"`
}

func (a alarm) id() string     { return a.ID }
func (a alarm) device() string { return a.Device }

// A topology publishes to a Pub/Sub of the service that it runs in.
func ExampleSink() {
	pubSub := gochannel.NewGoChannel(gochannel.Config{}, wm.NopLogger{})
	alarms, err := pubSub.Subscribe(context.Background(), "alarms")
	if err != nil {
		fmt.Println(err)
		return
	}
	src := flowtest.NewSource[alarm]()
	src.Feed(alarm{"a-1", "d-17"})
	src.End()
	t := flow.New("alarms")
	flow.To(flow.From(t, "in", src), "alarms", watermill.Sink(pubSub, "alarms", watermill.Payload(codec.JSON[alarm]()),
		watermill.ID(alarm.id), watermill.Key(alarm.device)))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	m := <-alarms
	fmt.Println(m.UUID, m.Metadata.Get(watermill.MetadataKey), string(m.Payload))
	m.Ack()
	if err := pubSub.Close(); err != nil {
		fmt.Println(err)
	}
	// Output: a-1 d-17 {"id":"a-1","device":"d-17"}
}
