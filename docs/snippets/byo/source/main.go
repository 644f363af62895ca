// Command source prints the lines of the .log files of a directory as they come, by a source of its own: source DIR.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state/pebble"
)

// [main]
func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: source DIR")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	t := flow.New("lines", flow.WithStore(pebble.Dir("state"))) // after a restart it goes on where it was
	flow.To(flow.From(t, "lines", Lines(os.Args[1], codec.String())), "print", flow.SinkFunc(printAll))
	if err := t.Run(ctx); err != nil {
		log.Print(err)
	}
}

// [end]

func printAll(_ context.Context, batch []flow.Record[string]) error {
	for _, r := range batch {
		fmt.Println(r.Value)
	}
	return nil
}
