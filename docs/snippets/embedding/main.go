// Command embedding is a service with a Watermill router, handlers and a Pub/Sub of its own, which gives one of its jobs to a topology.
package main

import (
	"context"
	"log"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/message/router/plugin"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// Order is a message of the service.
type Order struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	At       time.Time `json:"at"`
	Cents    int64     `json:"cents"`
}

// Spent is what a customer spent in a minute.
type Spent = window.Result[string, int64]

func customer(o Order) string   { return o.Customer }
func id(o Order) string         { return o.ID }
func at(o Order) time.Time      { return o.At }
func cents(o Order) int64       { return o.Cents }
func byCustomer(s Spent) string { return s.Key }

// [topology]
func spending(sub message.Subscriber, pub message.Publisher) *flow.Topology {
	t := flow.New("spending", flow.WithStore(state.InMemory()))
	orders := flow.From(t, "orders", source.Source(sub, "orders", source.Payload(codec.JSON[Order]())))
	timed := flow.AssignTime(orders, "time", at, watermark.BoundedOutOfOrderness(time.Second))
	fresh := operators.Dedup(flow.KeyBy(timed, customer), "dedup", id, time.Hour)
	minutes := operators.Window(fresh, "per-minute", window.Tumbling(time.Minute), agg.Sum(cents))
	flow.To(minutes, "spent", sink.Sink(pub, "spent", sink.Payload(codec.JSON[Spent]()), sink.Key(byCustomer)))
	return t
}

// [router]
func serve(ctx context.Context, pubSub *gochannel.GoChannel) error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 30 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router.AddPlugin(plugin.SignalsHandler)
	router.AddMiddleware(middleware.Recoverer, middleware.CorrelationID)
	// A Pub/Sub that others use must outlive a handler: KeepOpen.
	router.AddConsumerHandler("audit", "orders", source.KeepOpen(pubSub), func(m *message.Message) error {
		log.Printf("order %s", m.UUID)
		return nil
	})

	running, err := spending(pubSub, pubSub).AddTo(ctx, router)
	if err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil { // until SIGTERM, or ctx ends
		return err
	}
	<-running.Done() // the last epoch is committed
	return running.Err()
}

// [main]
func main() {
	if err := serve(context.Background(), gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})); err != nil {
		log.Print(err)
	}
}
