package main

import "github.com/millrace-stream/millrace/topologies/iot"

// The boxes of the path.

func allBox() box {
	return box{name: "all", source: "mqtt", after: "simulate", stateful: true, build: iot.All}
}

func ingestBox() box {
	return box{name: "ingest", source: "mqtt", after: "simulate", build: iot.Ingest}
}

func dataBox() box {
	return box{name: "data", source: "rocketmq", after: "ingest", stateful: true, build: iot.Data}
}
