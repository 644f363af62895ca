package mqtt_test

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sinks/mqtt"
)

type command struct {
	Device string `json:"device"`
	Valve  string `json:"valve"`
}

func (c command) topic() string { return "devices/" + c.Device + "/commands" }

func ExampleSink() {
	cfg := mqtt.Config{
		Brokers: []string{"ssl://broker.example:8883"}, Protocol: mqtt.V5, Username: "rules", Password: "hunter2",
		MessageExpiry: 30 * time.Second, // a valve that was away must not close an hour later
	}
	sink := mqtt.Sink(cfg, command.topic, codec.JSON[command]())

	t := flow.New("linkage")
	connect := func(commands flow.Stream[command]) { flow.To(commands, "commands", sink) }
	_ = connect // called with the stream of commands

	fmt.Println(t.Name(), "sends each command to the topic of its device;", cfg.Validate(), cfg.Password)
	// Output: linkage sends each command to the topic of its device; <nil> [redacted]
}
