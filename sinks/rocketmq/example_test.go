package rocketmq_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sinks/rocketmq"
)

type alarm struct {
	ID     string `json:"id"`
	Device string `json:"device"`
}

func alarmID(a alarm) string     { return a.ID }
func alarmDevice(a alarm) string { return a.Device }

func ExampleSink() {
	sink := rocketmq.Sink(rocketmq.Config{
		Connection: rocketmq.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "alarms",
	}, codec.JSON[alarm](), rocketmq.Key(alarmDevice), rocketmq.ID(alarmID))

	t := flow.New("alarms")
	connect := func(alarms flow.Stream[alarm]) { flow.To(alarms, "alarms", sink) }
	_ = connect // called with the stream of alarms

	fmt.Println(t.Name(), "go to the queue of their device, in order")
	// Output: alarms go to the queue of their device, in order
}
