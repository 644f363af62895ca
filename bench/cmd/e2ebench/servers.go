package main

import (
	"context"
	"fmt"

	"github.com/millrace-stream/millrace/bench/e2e"
	"github.com/millrace-stream/millrace/internal/services"
)

// ownOffset is where the ports of a broker of our own begin.
const ownOffset = 4000

// up starts the servers of a path: the shared ones, which stay up, and for a window of its own a mosquitto that goes down again.
func up(ctx context.Context, path string, window int, note func(string)) (s e2e.Servers, down func() error, err error) {
	names := map[string][]string{
		"mqtt":     {services.Mosquitto, services.ClickHouse},
		"rocketmq": {services.RocketNameSrv, services.RocketBroker, services.ClickHouse},
		"kafka":    {services.Kafka, services.ClickHouse},
		"ekuiper":  {services.Mosquitto},
	}[path]
	logf := func(format string, args ...any) { note(fmt.Sprintf(format, args...)) }
	down = func() error { return nil }
	shared, err := services.Open(services.Options{Names: names, Logf: logf})
	if err != nil {
		return s, down, err
	}
	if err := shared.Up(ctx); err != nil {
		return s, down, err
	}
	s = e2e.Of(shared)
	if window == 0 {
		return s, down, nil
	}
	own, err := services.Open(services.Options{Names: []string{services.Mosquitto}, PortOffset: ownOffset, MosquittoInflight: window, Logf: logf})
	if err != nil {
		return s, down, err
	}
	if err := own.Up(ctx); err != nil {
		return s, down, err
	}
	s.MQTT, s.MQTTWindow = own.MQTT(), window
	return s, func() error { return own.Down(context.WithoutCancel(ctx)) }, nil
}
