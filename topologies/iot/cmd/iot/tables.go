package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/topologies/iot"
)

func tablesCommand() command {
	return command{
		name:    "tables",
		summary: "create the tables in ClickHouse, or print their DDL",
		help: `
Creates the database and the tables that do not exist yet. Tables that exist stay as they are; a topology compares them with what it
writes when it starts.`,
		run: func(fs *flag.FlagSet) func(context.Context, *call) error {
			print := fs.Bool("print", false, "print the statements and do nothing")
			return func(ctx context.Context, c *call) error {
				if *print {
					return printTables(c.stdout)
				}
				return createTables(ctx, c)
			}
		},
	}
}

// createTables makes the tables. A server that cannot be reached is tried again until ctx ends; one that refuses is an error.
func createTables(ctx context.Context, c *call) error {
	for warned := false; ; warned = true {
		err := iot.CreateTables(ctx, c.cfg.ClickHouse)
		var refused *clickhouse.ServerError
		if errors.As(err, &refused) && slices.Contains([]int{192, 193, 194, 516}, refused.Code) {
			return fmt.Errorf("%w: check clickhouse.username and clickhouse.password", err)
		}
		if err == nil || errors.As(err, &refused) {
			return err
		}
		if !warned {
			c.log.Warn("ClickHouse cannot be reached, trying again until it can", "addr", c.cfg.ClickHouse.Addr, "err", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("ClickHouse cannot be reached: %w: is it running, and is clickhouse.addr right?", err)
		}
	}
}

func printTables(w io.Writer) error {
	statements, err := iot.DDL()
	for _, sql := range statements {
		fmt.Fprintf(w, "%s;\n\n", sql)
	}
	return err
}

// closing closes c and joins its error to err, for defer.
func closing(err *error, c io.Closer) { *err = errors.Join(*err, c.Close()) }
