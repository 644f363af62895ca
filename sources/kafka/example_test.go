package kafka_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sources/kafka"
)

type reading struct {
	Device  string  `json:"device"`
	Celsius float64 `json:"celsius"`
}

func ExampleSource() {
	t := flow.New("metrics")
	readings := flow.From(t, "readings", kafka.Source(kafka.Config{
		Connection:   kafka.Connection{Brokers: []string{"127.0.0.1:19092"}},
		TopicPattern: "readings-.*",
		Group:        "metrics",
	}, codec.JSON[reading]()))

	_ = readings // goes on to operators
	fmt.Println(t.Name(), "reads every partition of the topics that match, and of those that will")
	// Output: metrics reads every partition of the topics that match, and of those that will
}
