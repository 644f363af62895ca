// Command peers measures Millrace beside other libraries, as package bench/harness does: list, run, compare, report.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/peers"
)

func main() {
	args := os.Args[1:]
	for i := range args {
		args[i] = strings.TrimSuffix(args[i], "/...") // families may be written as packages are
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := harness.Main(ctx, args, os.Stdout, os.Stderr, peers.Scenarios()...)
	cancel()
	os.Exit(code)
}
