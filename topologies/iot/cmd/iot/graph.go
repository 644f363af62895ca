package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/topologies/iot"
)

func graphCommand() command {
	return command{
		name:    "graph",
		summary: "draw the topology as a Mermaid flowchart",
		help:    "Draws the whole path, or one box of it with -box ingest or -box data. Nothing is connected.",
		run: func(fs *flag.FlagSet) func(context.Context, *call) error {
			name := fs.String("box", "all", "all, ingest or data")
			return func(_ context.Context, c *call) (err error) {
				for _, b := range []box{allBox(), ingestBox(), dataBox()} {
					if b.name != *name {
						continue
					}
					ch := iot.Connect(c.cfg.ClickHouse)
					defer closing(&err, ch)
					t := b.build(c.cfg, ch, flow.WithStore(state.InMemory()))
					if err := t.Validate(); err != nil {
						return err
					}
					_, err = fmt.Fprint(c.stdout, t.Mermaid())
					return err
				}
				return fmt.Errorf("%w: -box %q is not one of all, ingest, data", errUsage, *name)
			}
		},
	}
}
