package rocketmq_test

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sources/rocketmq"
)

type reading struct {
	Device  string    `json:"device"`
	Celsius float64   `json:"celsius"`
	At      time.Time `json:"at"`
}

func ExampleSource() {
	src := rocketmq.Source(rocketmq.Config{
		Connection: rocketmq.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "readings",
		Group:      "device-metrics",
		Batch:      1024,
	}, codec.JSON[reading]())
	t := flow.New("device-metrics")
	readings := flow.From(t, "readings", src)
	_ = readings // the topology goes on here

	fmt.Println("a crash rolls positions back together with state:", src.Replay() == flow.Seek)
	// Output: a crash rolls positions back together with state: true
}
