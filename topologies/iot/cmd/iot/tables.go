package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

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
				return iot.CreateTables(ctx, c.cfg.ClickHouse)
			}
		},
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
