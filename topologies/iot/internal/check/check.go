// Package check reads what the IoT topology wrote to ClickHouse, to compare it with a ledger.
package check

import (
	"context"
	"errors"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

// Examples is how many differences of each output are told in words.
const Examples = 20

// Run compares the tables with a ledger.
func Run(ctx context.Context, ch *clickhouse.Conn, l *ledger.Ledger) (ledger.Report, error) {
	o, err := Read(ctx, ch)
	if err != nil {
		return ledger.Report{}, err
	}
	sites := iot.Sites()
	return ledger.Compare(l, o, func(site string) string { return iot.RegionOf(sites, site) }, Examples), nil
}

// Read reads the tables.
func Read(ctx context.Context, ch *clickhouse.Conn) (*ledger.Outcome, error) {
	var o ledger.Outcome
	return &o, errors.Join(
		ch.Query(ctx, "SELECT device, toInt64(toUnixTimestamp(minute)), site, region, count, avg, min, max FROM "+iot.TableMinutes+" FINAL", func(r driver.Rows) error {
			var row ledger.Row
			var seconds int64
			err := r.Scan(&row.Device, &seconds, &row.Site, &row.Region, &row.Count, &row.Avg, &row.Min, &row.Max)
			row.Minute = seconds / 60
			o.Rows = append(o.Rows, row)
			return err
		}),
		events(ctx, ch, iot.TableLate, &o.Late),
		events(ctx, ch, iot.TableBadClock, &o.BadClock),
		events(ctx, ch, iot.TableInvalid, &o.Invalid),
		ch.Query(ctx, "SELECT DISTINCT raw FROM "+iot.TableDeadLetters, func(r driver.Rows) error {
			var raw string
			err := r.Scan(&raw)
			o.Malformed = append(o.Malformed, raw)
			return err
		}),
	)
}

func events(ctx context.Context, ch *clickhouse.Conn, table string, into *[]ledger.Event) error {
	return ch.Query(ctx, "SELECT DISTINCT device, seq FROM "+table, func(r driver.Rows) error {
		var e ledger.Event
		err := r.Scan(&e.Device, &e.Seq)
		*into = append(*into, e)
		return err
	})
}

// Repeats is how many rows were written more than once, and folded: what crashes and unknown outcomes cost.
func Repeats(ctx context.Context, ch *clickhouse.Conn) (map[string]int64, error) {
	repeats := map[string]int64{}
	identity := map[string]string{
		iot.TableMinutes: "device, minute", iot.TableLate: "device, seq", iot.TableBadClock: "device, seq", iot.TableInvalid: "device, seq",
		iot.TableDeadLetters: "raw",
	}
	var errs []error
	for table, columns := range identity {
		errs = append(errs, ch.Query(ctx, "SELECT toInt64(count() - uniqExact("+columns+")) FROM "+table, func(r driver.Rows) error {
			var n int64
			err := r.Scan(&n)
			repeats[table] = n
			return err
		}))
	}
	return repeats, errors.Join(errs...)
}
