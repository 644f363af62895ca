// Package clickhouse is the sink for ClickHouse: typed columns, one block per insert, over HTTP or the native protocol.
//
//	ch := clickhouse.New(clickhouse.Config{Addr: []string{"127.0.0.1:9000"}})
//	flow.To(perMinute, "clickhouse", clickhouse.Sink(ch, "device_minute", toRow, clickhouse.Version("version")))
//
// A row is a struct with `ch:"column"` tags (or `ch:"column,Type"` to say the column's type for DDL); what to copy from where is
// worked out once, by reflection, and rows then go into columns without it. Columns names the columns by functions instead.
//
// Delivery is at least once. What is repeated: after a crash of this process, the rows of the epoch that was not committed; after
// an insert whose outcome is unknown (connection lost, timeout) on a table that is not replicated, the rows of that insert. The
// repeats carry the same key and the same or a higher version, so a ReplacingMergeTree over Version's column folds them. On replicated tables
// a deduplication token makes the server drop the repeat of an insert. The reason for the difference: without replication the
// server stores a token before the rows, so that a crash between the two would lose them if the token were used again.
//
// What stops the topology: a table, column, type, right or password that does not fit, found at Open with both sides named. What
// goes to the dead letters: a row that the server refuses for good; it is found by halving the insert. Everything else is retried.
package clickhouse
