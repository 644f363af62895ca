package clickhouse

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// Through the engine: what an epoch committed is in the table, a crash repeats the epoch that was not, and the repeats fold.
func TestTopologyWithCrashes(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE metrics (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, version UInt64, CONSTRAINT sane CHECK value < 4000) ENGINE = ReplacingMergeTree(version) ORDER BY seq")
		require.NoError(t, CreateTable[DeadLetterRow](t.Context(), s.conn, "dead_letter", OrderBy("at")))
		src := flowtest.NewSource[reading]()
		r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
			top := flow.New("metrics", opts...)
			in := flow.From(top, "source", src)
			flow.To(in, "clickhouse", Rows[reading](s.conn, "metrics", Version("version")))
			flow.To(top.DeadLetters(), "dead-letter", DeadLetters(s.conn, "dead_letter"))
			return top
		}, src)
		rows := readings(0, 3000)
		rows[500].Value = 5000                                // the server refuses it
		rows[600].At = flow.TimestampOf(time.Unix(-1<<40, 0)) // the column cannot hold it
		src.Feed(rows[:1000]...)
		r.Epoch()
		require.Equal(t, "998 998", s.one(t, "SELECT count(), uniqExact(seq) FROM @metrics FINAL"))
		src.Feed(rows[1000:2000]...)
		r.Settle()
		r.Crash() // not committed: comes again
		src.Feed(rows[2000:]...)
		r.Epoch()
		r.Crash()
		r.Stop()
		require.Equal(t, "2998 2998", s.one(t, "SELECT count(), uniqExact(seq) FROM @metrics FINAL"))
		require.Equal(t, "2", s.one(t, "SELECT uniqExact(intDiv(version, pow(2, 40))) FROM @metrics FINAL"))
		require.Len(t, s.rows(t, "SELECT node, cause, record, raw FROM @dead_letter"), 2)
		require.Equal(t, "500", s.one(t, "SELECT JSONExtractUInt(record, 'seq') FROM @dead_letter WHERE cause LIKE '%sane%'"))
	})
}

// A wrong table stops the topology before anything is read.
func TestTopologyStopsOnAWrongTable(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		top := flow.New("metrics")
		flow.To(flow.From(top, "source", flowtest.NewSource[reading]()), "clickhouse", Rows[reading](s.conn, "nowhere"))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := top.Run(ctx)
		var node *flow.NodeError
		require.True(t, errors.As(err, &node), "%v", err)
		require.Equal(t, "clickhouse", node.Node)
		require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS")
	})
}
