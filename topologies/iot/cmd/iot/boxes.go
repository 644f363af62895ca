package main

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// box is one process of the path.
type box struct {
	name string
	// source is the name of its source node.
	source string
	// after is the box whose end it waits for.
	after string
	// stateful boxes need a store, and are flushed at their end.
	stateful bool
	build    func(iot.Config, *clickhouse.Conn, ...flow.TopologyOption) *flow.Topology
	// behind asks the broker before it how many messages are not confirmed.
	behind func(iot.Config) func(context.Context) (int64, error)
}

func allBox() box {
	return box{name: "all", source: "mqtt", after: "simulate", stateful: true, build: iot.All, behind: mqttSide}
}

func ingestBox() box {
	return box{name: "ingest", source: "mqtt", after: "simulate", build: iot.Ingest, behind: mqttSide}
}

func dataBox() box {
	return box{name: "data", source: "rocketmq", after: "ingest", stateful: true, build: iot.Data, behind: rocketmqSide}
}

func mqttSide(cfg iot.Config) func(context.Context) (int64, error) { return mqttBehind(cfg.MQTT) }

func rocketmqSide(cfg iot.Config) func(context.Context) (int64, error) {
	return rocketmqBehind(cfg.RocketMQ)
}
