package kafka_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sinks/kafka"
)

type alarm struct {
	ID     string `json:"id"`
	Device string `json:"device"`
}

func alarmDevice(a alarm) string { return a.Device }

func alarmHeaders(a alarm) map[string]string { return map[string]string{"id": a.ID} }

func ExampleSink() {
	sink := kafka.Sink(kafka.Config{
		Connection: kafka.Connection{Brokers: []string{"127.0.0.1:19092"}},
		Topic:      "alarms",
	}, codec.JSON[alarm](), kafka.Key(alarmDevice), kafka.Headers(alarmHeaders))

	t := flow.New("alarms")
	connect := func(alarms flow.Stream[alarm]) { flow.To(alarms, "alarms", sink) }
	_ = connect // called with the stream of alarms

	fmt.Println(t.Name(), "go to the partition of their device, in order")
	// Output: alarms go to the partition of their device, in order
}
