// Command sink writes a thousand numbers into a file, by a sink of its own: sink FILE.
package main

import (
	"context"
	"log"
	"os"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/sources/gen"
)

// Number is what is written.
type Number struct {
	N    int64  `json:"n"`
	Note string `json:"note,omitempty"`
}

// [main]
func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: sink FILE")
	}
	t := flow.New("numbers", flow.WithStore(state.InMemory()))
	numbers := gen.Source(func(i int64) Number { return Number{N: i} }, gen.Count(1000))
	flow.To(flow.From(t, "numbers", numbers), "journal", Journal(os.Args[1], codec.JSON[Number]()))
	if err := t.Run(context.Background()); err != nil {
		log.Print(err)
	}
}

// [end]
