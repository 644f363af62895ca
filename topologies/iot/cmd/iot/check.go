package main

import (
	"context"
	"flag"

	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/check"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

func checkCommand() command {
	return command{
		name:    "check",
		summary: "compare the tables in ClickHouse with the simulator's ledger",
		help: `
Says for each output how many rows the ledger has, how many the tables have, and what differs, the first differences in words. The last
line is "exact", with exit code 0, or the number of differences, with exit code 1. The rules stand in docs/ledger.md. The tables are
compared as they are: run it when the data path has ended (iot data -finish, iot all -finish).`,
		keys: [][2]string{{"ledger", "simulate.ledger"}, {"database", "clickhouse.database"}},
		run:  func(*flag.FlagSet) func(context.Context, *call) error { return runCheck },
	}
}

func runCheck(ctx context.Context, c *call) (err error) {
	l, err := ledger.Read(c.cfg.Simulate.Ledger)
	if err != nil {
		return err
	}
	ch := iot.Connect(c.cfg.ClickHouse)
	defer closing(&err, ch)
	report, err := check.Run(ctx, ch, l)
	if err != nil {
		return err
	}
	if err := report.Write(c.stdout); err != nil {
		return err
	}
	if !report.Exact() {
		return errDiffers
	}
	return nil
}
