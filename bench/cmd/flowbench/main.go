// Command flowbench measures topologies: see package bench/harness.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/scenarios"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := harness.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, scenarios.All()...)
	cancel()
	os.Exit(code)
}
