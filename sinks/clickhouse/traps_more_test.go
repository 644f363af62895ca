package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// A deduplication token wins over the data: an insert under a token that was used before is a success and stores nothing. So a
// token never comes with other rows: not within a run, not after a restart that cuts its blocks differently.
func TestTrapATokenNeverComesWithOtherRows(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "tokens", OrderBy("seq"), DedupWindow(1000)))
		rt := (&engine{}).runtime()
		rt.StoreID = "the store of all runs of " + s.cfg.Database
		from := 0
		for run := range 3 { // each is killed after its third block
			rt.Incarnation = uint64(run + 1)
			k := Rows[reading](s.conn, "tokens", MaxRows(7+run))
			require.NoError(t, k.Open(t.Context(), rt))
			for range 3 {
				require.Empty(t, deliver(t, k, seal(t, k, readings(from, from+20)...)))
				from += 20
			}
			require.NoError(t, k.Close(t.Context()))
		}
		require.Equal(t, fmt.Sprint(from, " ", from), s.one(t, "SELECT count(), uniqExact(seq) FROM @tokens"))
	})
}

// Without a token a table with a deduplication window drops a block that is equal to an earlier one. Two equal blocks are two
// blocks: devices do send the same values again.
func TestTrapEqualRowsAreNoRepeats(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "equal", OrderBy("seq"), DedupWindow(1000)))
		k := Rows[reading](s.conn, "equal")
		open(t, k)
		for range 3 {
			require.Empty(t, deliver(t, k, seal(t, k, readings(0, 10)...)))
		}
		require.Equal(t, "30 10", s.one(t, "SELECT count(), uniqExact(seq) FROM @equal"))
	})
}

// A batch that is prepared and not sent keeps its connection: a few failures, and the pool is empty. Here every failed insert gives
// its connection back, or closes it.
func TestTrapFailedInsertsGiveTheirConnectionBack(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "slots"))
		cfg := s.cfg
		cfg.MaxInFlight = 1
		conn := New(cfg)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		k := Rows[reading](conn, "slots")
		open(t, k)
		blocks := seal(t, k, readings(0, 10)...)
		s.exec(t, "RENAME TABLE slots TO elsewhere")
		for range 30 {
			_, err := k.Deliver(t.Context(), blocks)
			require.Equal(t, 60, codeOf(err), "%v", err)
		}
		s.exec(t, "RENAME TABLE elsewhere TO slots")
		require.Empty(t, deliver(t, k, blocks))
		require.Equal(t, "10", s.one(t, "SELECT count() FROM @slots"))
	})
}

// A materialized view runs inside the insert: when it fails, the insert fails, and the table may have its rows all the same. The rows
// that the view cannot take are rejects, and the others are in table and view.
func TestTrapAFailingViewFailsTheInsert(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "seen", OrderBy("seq")))
		s.exec(t, "CREATE TABLE halves (seq UInt64, half UInt64) ENGINE = MergeTree ORDER BY seq")
		s.exec(t, "CREATE MATERIALIZED VIEW to_halves TO halves AS SELECT seq, intDiv(100, toInt64(seq) - 5) AS half FROM seen")
		k := Rows[reading](s.conn, "seen")
		open(t, k)
		rejects := deliver(t, k, seal(t, k, readings(0, 20)...))
		require.Len(t, rejects, 1)
		require.Equal(t, 5, rejects[0].Row)
		require.Equal(t, 153, codeOf(rejects[0].Err), "%v", rejects[0].Err) // ILLEGAL_DIVISION
		require.Equal(t, "19", s.one(t, "SELECT uniqExact(seq) FROM @halves"))
		require.Equal(t, "19", s.one(t, "SELECT uniqExact(seq) FROM @seen WHERE seq != 5"))
	})
}

// Which of the server's errors pass by themselves is nowhere written down. Taking one for permanent loses rows to the dead letters;
// taking a permanent one for transient tries for ever.
func TestTrapCodesOfTheServer(t *testing.T) {
	for fate, codes := range map[fate][]int{
		// timeouts, memory, replicas, keeper, too many parts or queries, shutting down
		retry:   {3, 159, 164, 202, 203, 225, 241, 242, 252, 285, 290, 394, 425, 439, 667, 745, 999},
		unknown: {209, 210, 236, 319},
		// parse errors, NULL, constraints, ranges: the data
		refused: {6, 26, 27, 69, 70, 153, 321, 349, 469},
		// schema, syntax, access
		stop: {16, 47, 53, 60, 62, 81, 497, 516},
	} {
		for _, code := range codes {
			require.Equal(t, fate, fateOf(fmt.Errorf("insert: %w", &ServerError{code, ""})), "code %d", code)
		}
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, &net.OpError{Err: errors.New("i/o timeout")}} {
		require.Equal(t, unknown, fateOf(err), "%v: sent, and no answer", err)
	}
	require.Equal(t, retry, fateOf(&notSent{syscall.ECONNREFUSED}))
	require.Equal(t, retry, fateOf(&notSent{flow.Transient(io.EOF)}))
}
