package watermill_test

import (
	"context"
	"fmt"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sources/watermill"
)

type order struct {
	ID    int `json:"id"`
	Cents int `json:"cents"`
}

// A topology reads a Pub/Sub of the service that it runs in.
func ExampleSource() {
	pubSub := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, wm.NopLogger{})
	t := flow.New("orders")
	ctx, done := context.WithCancel(context.Background())
	orders := flow.From(t, "orders", watermill.Source(pubSub, "orders", watermill.Payload(codec.JSON[order]())))
	flow.To(orders, "print", flow.SinkFunc(func(_ context.Context, batch []flow.Record[order]) error {
		fmt.Println("order", batch[0].Value.ID, "of", batch[0].Value.Cents)
		done()
		return nil
	}))
	if err := pubSub.Publish("orders", message.NewMessage(wm.NewUUID(), message.Payload(`{"id":7,"cents":250}`))); err != nil {
		fmt.Println(err)
	}
	if err := t.Run(ctx); err != nil {
		fmt.Println(err)
	}
	if err := pubSub.Close(); err != nil {
		fmt.Println(err)
	}
	// Output: order 7 of 250
}
