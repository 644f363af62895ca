package clickhouse

import (
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func TestInsertBatches(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		for _, c := range []Compression{LZ4, ZSTD, NoCompression} {
			t.Run(string(c), func(t *testing.T) {
				cfg := s.cfg
				cfg.Compression = c
				conn := New(cfg)
				t.Cleanup(func() { require.NoError(t, conn.Close()) })
				table := "readings_" + string(c)
				require.NoError(t, CreateTable[reading](t.Context(), conn, table, OrderBy("device", "at")))
				k := Rows[reading](conn, table, MaxRows(700))
				e := open(t, k)
				// Four tasks: the blocks of all are merged up to MaxRows.
				var blocks []flow.Block
				for task := range 4 {
					blocks = append(blocks, seal(t, k, readings(task*1000, task*1000+1000)...)...)
				}
				require.Len(t, blocks, 8) // 700 + 300 each
				require.Empty(t, deliver(t, k, blocks))
				require.Equal(t, "4000 4000 3999000", s.one(t, "SELECT count(), uniqExact(seq), sum(value) FROM @"+table))
				require.Equal(t, int64(8), e.count("inserts"))
				require.Zero(t, e.count("retries"))
				// What is delivered is never sent again.
				require.Empty(t, deliver(t, k, blocks))
				require.Equal(t, "4000", s.one(t, "SELECT count() FROM @"+table))
				var n uint64
				scanAll(t, conn, "SELECT count() FROM "+table, func(r driver.Rows) error { return r.Scan(&n) })
				require.Equal(t, uint64(4000), n)
			})
		}
	})
}

func TestInsertMergesSmallBlocksOfAllTasks(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "merged"))
		k := Rows[reading](s.conn, "merged")
		e := open(t, k)
		var blocks []flow.Block
		for task := range 10 {
			blocks = append(blocks, seal(t, k, readings(task*10, task*10+10)...)...)
		}
		deliver(t, k, blocks)
		require.Equal(t, int64(1), e.count("inserts"))
		require.Equal(t, "100 100", s.one(t, "SELECT count(), uniqExact(seq) FROM @merged"))
		require.Equal(t, "1", s.one(t, "SELECT count() FROM system.parts WHERE active AND table = 'merged' AND database = '"+s.cfg.Database+"'"))
		// The buffers come back.
		deliver(t, k, seal(t, k, readings(100, 200)...))
		require.Equal(t, "200 200", s.one(t, "SELECT count(), uniqExact(seq) FROM @merged"))
	})
}

func TestInsertOrdersSettingsAndToken(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "tokens", DedupWindow(100)))
		k := Rows[reading](s.conn, "tokens")
		open(t, k)
		blocks := seal(t, k, readings(0, 5)...)
		token := blocks[0].(*block).token
		deliver(t, k, blocks)
		s.exec(t, "SYSTEM FLUSH LOGS")
		q := "SELECT DISTINCT Settings['async_insert'], Settings['insert_deduplication_token'] FROM system.query_log" +
			" WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND query_id = 'millrace/" + token + "/1'"
		// insert_deduplicate is sent too; the log lists only what differs from the default
		require.Equal(t, "0 "+token, s.one(t, q))
	})
}

func TestVersionColumnLetsTheLastWordWin(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "latest", Replacing("version"), OrderBy("device")))
		k := Rows[reading](s.conn, "latest", Version("version"))
		e := open(t, k)
		var blocks []flow.Block
		w, err := k.Writer(t.Context(), flow.TaskInfo{Generation: 3})
		require.NoError(t, err)
		for i := range 5 {
			require.NoError(t, w.Write(t.Context(), records(readings(i*100, i*100+100)...)))
			b, err := w.Seal(t.Context())
			require.NoError(t, err)
			blocks = append(b, blocks...) // the latest is delivered first
		}
		deliver(t, k, blocks)
		require.Equal(t, "100 400 499", s.one(t, "SELECT count(), min(seq), max(seq) FROM @latest FINAL"))
		require.Equal(t, fmt.Sprint(3<<40+401, 3<<40+500), s.one(t, "SELECT min(version), max(version) FROM @latest FINAL"))
		require.Empty(t, e.log.String())
	})
}

func TestDeadLetters(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[DeadLetterRow](t.Context(), s.conn, "dead_letter", OrderBy("at")))
		k := DeadLetters(s.conn, "dead_letter")
		open(t, k)
		deliver(t, k, seal(t, k,
			flow.DeadLetter{Topology: "iot", Node: "decode", Cause: "bad", Attempts: 1, Raw: []byte{0, 255, 'x'}, At: flow.Millis(1_700_000_000_123), Time: flow.None},
			flow.DeadLetter{Node: "window", Record: []byte("{}"), Time: flow.Millis(1_600_000_000_000), Partition: "p", Position: flow.Position{Offset: 7, Token: "t"}},
			flow.DeadLetter{Node: "time", Time: flow.EndOfTime},
			flow.DeadLetter{Node: "time", Time: flow.None + 1, At: flow.None},
		))
		require.Equal(t, []string{
			"1700000000123 iot decode bad 1 00FF78 \\N 0", "0  time  0  \\N 0", "0  time  0  \\N 0", "0  window  0  1600000000000 7",
		}, s.rows(t, "SELECT toUnixTimestamp64Milli(at), topology, node, cause, attempts, hex(raw), toUnixTimestamp64Milli(time), offset FROM @dead_letter ORDER BY node"))
	})
}
