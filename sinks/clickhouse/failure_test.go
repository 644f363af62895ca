package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestPoisonRowsAreFoundAndTheRestGoesThrough(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE poison (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, CONSTRAINT sane CHECK value < 1000) ENGINE = MergeTree ORDER BY seq")
		k := Rows[reading](s.conn, "poison", MaxRows(600))
		e := open(t, k)
		rows := readings(0, 1000)
		for _, i := range []int{0, 399, 400, 999} {
			rows[i].Value = 5000
		}
		blocks := append(append(seal(t, k, rows[:400]...), seal(t, k, rows[400:500]...)...), seal(t, k, rows[500:]...)...)
		rejects := deliver(t, k, blocks)
		require.Len(t, rejects, 4)
		for i, want := range []struct{ block, row, seq int }{{0, 0, 0}, {0, 399, 399}, {1, 0, 400}, {2, 499, 999}} {
			r := rejects[i]
			require.Equal(t, want.block, r.Block)
			require.Equal(t, want.row, r.Row)
			require.ErrorContains(t, r.Err, "sane")
			require.Equal(t, 469, codeOf(r.Err))
			var got map[string]any
			require.NoError(t, json.Unmarshal(r.Record, &got))
			require.Equal(t, float64(want.seq), got["seq"])
			require.Equal(t, flow.Timestamp(want.row), r.Time)
		}
		require.Equal(t, "996 996", s.one(t, "SELECT count(), uniqExact(seq) FROM @poison"))
		require.Equal(t, int64(4), e.count("refused_rows"))
		require.Zero(t, e.count("repeats"))
	})
}

// When no row at all passes it is the table that is at fault, and a stop says so; a bad beginning is not enough for that.
func TestAllRowsRefusedBlamesTheTable(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE refuses (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, CONSTRAINT never CHECK seq >= 200) ENGINE = MergeTree ORDER BY seq")
		k := Rows[reading](s.conn, "refuses")
		open(t, k)
		_, err := k.Deliver(t.Context(), seal(t, k, readings(0, 200)...))
		require.ErrorContains(t, err, "rows tried one by one, all refused")
		require.ErrorContains(t, err, "never")
		require.False(t, flow.IsTransient(err))

		k = Rows[reading](s.conn, "refuses")
		open(t, k)
		require.Len(t, deliver(t, k, seal(t, k, readings(0, 210)...)), 200)
		require.Equal(t, "10", s.one(t, "SELECT count() FROM @refuses"))
	})
}

func TestOpenSaysWhatDoesNotFit(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE odd (device UInt8, at DateTime64(3, 'UTC'), value Float32, seq UInt64 MATERIALIZED 1, version UInt32) ENGINE = MergeTree ORDER BY tuple()")
		s.exec(t, "CREATE TABLE plain (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, version UInt64, other UInt64) ENGINE = MergeTree ORDER BY tuple()")
		s.exec(t, "CREATE TABLE chooses (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, version UInt64, other UInt64) ENGINE = ReplacingMergeTree(other) ORDER BY seq")
		addr := s.cfg.Addr[0]
		with := func(change func(c *Config)) *Conn {
			cfg := s.cfg
			change(&cfg)
			c := New(cfg)
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			return c
		}
		for _, c := range []struct {
			name      string
			conn      *Conn
			table     string
			want      []string
			transient bool
		}{
			{"unknown table", s.conn, "nowhere", []string{"clickhouse " + addr, "nowhere", "server error 60", "CREATE TABLE IF NOT EXISTS", "`seq` UInt64"}, false},
			{"unknown database", s.conn, "no_db.t", []string{"database no_db does not exist", "CREATE DATABASE `no_db`"}, false},
			{"wrong types", s.conn, "odd", []string{
				`column "device" is UInt8, which cannot hold every value of field clickhouse.reading.Device (string); it would fit String`,
				`column "value" is Float32, which cannot hold every value of field clickhouse.reading.Value (float64)`,
				`column "seq" is MATERIALIZED`, `version column "version" is UInt32 and must be UInt64`,
			}, false},
			{"wrong password", with(func(c *Config) { c.User, c.Password = "writer", "not-the-secret" }), "plain", []string{"server error 516", "check user and password"}, false},
			{"unknown user", with(func(c *Config) { c.User = "nobody" }), "plain", []string{"server error 516"}, false},
			{"read-only", with(func(c *Config) { c.User = "reader" }), "plain", []string{`user "reader" is read-only`}, false},
			{"nobody there", with(func(c *Config) { c.Addr = []string{"127.0.0.1:1"} }), "plain", []string{"127.0.0.1:1", "connection refused", "is the server up"}, true},
		} {
			if s.cfg.Protocol == Native && c.want[0] == "server error 516" {
				continue // see TestWrongPasswordOverNative
			}
			t.Run(c.name, func(t *testing.T) {
				k := Rows[reading](c.conn, c.table, Version("version"))
				err := k.Open(t.Context(), (&engine{}).runtime())
				require.Error(t, err)
				for _, w := range c.want {
					require.ErrorContains(t, err, w)
				}
				require.NotContains(t, err.Error(), "not-the-secret")
				require.Equal(t, c.transient, flow.IsTransient(err), "%v", err)
			})
		}
		t.Run("missing column", func(t *testing.T) {
			type wider struct {
				reading
				Site string `ch:"site,LowCardinality(String)"`
			}
			err := Rows[wider](s.conn, "plain").Open(t.Context(), (&engine{}).runtime())
			require.ErrorContains(t, err, "column \"site\" is missing: ALTER TABLE `"+s.cfg.Database+"`.`plain` ADD COLUMN `site` LowCardinality(String)")
			require.False(t, flow.IsTransient(err))
		})
		for table, warning := range map[string]string{"plain": "keeps every version of a row", "chooses": "does not choose by this version column"} {
			e := open(t, Rows[reading](s.conn, table, Version("version")))
			require.Contains(t, e.log.String(), warning)
		}
		t.Run("writer with password", func(t *testing.T) {
			k := Rows[reading](with(func(c *Config) { c.User, c.Password = "writer", "secret" }), "plain")
			open(t, k)
			deliver(t, k, seal(t, k, readings(0, 3)...))
			require.Equal(t, "3", s.one(t, "SELECT count() FROM @plain"))
		})
	})
}

// On a server of its own: the engine that carries the test server ends after it has refused a native login, as ClickHouse does not.
func TestWrongPasswordOverNative(t *testing.T) {
	set := services.Isolated(t, services.Options{}, services.ClickHouse)
	c := New(Config{Addr: []string{set.ClickHouseNative()}, User: "writer", Password: "not-the-secret"})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	err := Rows[reading](c, "t").Open(t.Context(), (&engine{}).runtime())
	require.ErrorContains(t, err, "server error 516")
	require.ErrorContains(t, err, "check user and password")
	require.NotContains(t, err.Error(), "not-the-secret")
	require.False(t, flow.IsTransient(err))
}

// A table that changes under a running sink stops it, with the cause.
func TestTableChangesAfterOpen(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		for _, c := range []struct {
			sql  string
			code int
		}{{"ALTER TABLE changing DROP COLUMN value", 16}, {"DROP TABLE changing SYNC", 60}} {
			require.NoError(t, CreateTable[reading](t.Context(), s.conn, "changing"))
			k := Rows[reading](s.conn, "changing")
			open(t, k)
			s.exec(t, c.sql)
			_, err := k.Deliver(t.Context(), seal(t, k, readings(0, 3)...))
			require.Equal(t, c.code, codeOf(err), "%v", err)
			require.ErrorContains(t, err, "changing")
			require.False(t, flow.IsTransient(err))
			s.exec(t, "DROP TABLE IF EXISTS changing SYNC")
		}
	})
}

func TestTooManyPartsIsTransient(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "parts",
			TableSetting("parts_to_throw_insert", "3"), TableSetting("parts_to_delay_insert", "0")))
		s.exec(t, "SYSTEM STOP MERGES parts")
		k := Rows[reading](s.conn, "parts", MaxRows(10))
		e := open(t, k)
		blocks := seal(t, k, readings(0, 100)...)
		_, err := k.Deliver(t.Context(), blocks)
		require.True(t, flow.IsTransient(err), "%v", err)
		require.Equal(t, 252, codeOf(err))
		s.exec(t, "SYSTEM START MERGES parts")
		require.Eventually(t, func() bool {
			s.exec(t, "OPTIMIZE TABLE parts FINAL")
			rejects, err := k.Deliver(t.Context(), blocks)
			require.Empty(t, rejects)
			require.True(t, err == nil || codeOf(err) == 252, "%v", err)
			return err == nil
		}, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, "100 100", s.one(t, "SELECT count(), uniqExact(seq) FROM @parts"))
		require.Zero(t, e.count("repeats"), "the server said that it stored nothing")
	})
}

// The same code for another reason: an insert over too many partitions never passes as a whole.
func TestTooManyPartitionsSplitsTheInsert(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "partitions", PartitionBy("seq")))
		cfg := s.cfg
		cfg.Settings = map[string]string{"max_partitions_per_insert_block": "5"}
		conn := New(cfg)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		k := Rows[reading](conn, "partitions")
		e := open(t, k)
		require.Empty(t, deliver(t, k, seal(t, k, readings(0, 12)...)))
		require.Equal(t, int64(4), e.count("inserts"))
		require.Equal(t, "12 12", s.one(t, "SELECT count(), uniqExact(seq) FROM @partitions"))
	})
}

func TestReadOnlyForGoodStops(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "sealed", TableSetting("table_readonly", "1")))
		k := Rows[reading](s.conn, "sealed")
		open(t, k)
		_, err := k.Deliver(t.Context(), seal(t, k, readings(0, 3)...))
		require.Equal(t, 774, codeOf(err), "%v", err)
		require.False(t, flow.IsTransient(err))
	})
}

// A replicated table without its keeper takes nothing for a while: nothing is stored, and it is worth waiting.
func TestReplicaWithoutKeeperIsTransient(t *testing.T) {
	set := services.Need(t, services.ClickHouse)
	for _, p := range []Protocol{Native, HTTP} {
		t.Run(string(p), func(t *testing.T) {
			s := newServer(t, set, p)
			id := "00000000-0000-4000-8000-0000000000" + map[Protocol]string{Native: "01", HTTP: "02"}[p]
			s.exec(t, "ATTACH TABLE replica UUID '"+id+"' (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64) ENGINE = ReplicatedMergeTree('/replica', 'r1') ORDER BY seq")
			k := Rows[reading](s.conn, "replica").(*sink[reading, reading])
			open[reading](t, k)
			require.True(t, k.replicated)
			blocks := seal[reading](t, k, readings(0, 3)...)
			for range 2 {
				_, err := k.Deliver(t.Context(), blocks)
				require.True(t, flow.IsTransient(err), "%v", err)
				// 667, not initialized yet, while the server hopes for its keeper; 242, read-only, when it has lost it.
				require.Contains(t, []int{242, 667}, codeOf(err), "%v", err)
			}
			require.Equal(t, blocks[0].(*block).token, k.pending[0].parts[0].token)
		})
	}
}

// The server dies by kill -9 at random moments while batches go in; every delivery is retried as the engine does. No row may be lost.
func TestKilledServerLosesNothing(t *testing.T) {
	set := services.Isolated(t, services.Options{}, services.ClickHouse)
	for _, p := range []Protocol{Native, HTTP} {
		t.Run(string(p), func(t *testing.T) {
			s := newServer(t, set, p)
			require.NoError(t, CreateTable[reading](t.Context(), s.conn, "kept", Replacing("version"), OrderBy("seq"), DedupWindow(1000)))
			k := Rows[reading](s.conn, "kept", Version("version"), MaxRows(1000))
			e := open(t, k)
			const rounds, batches = 3, 30
			delivered := make(chan int, batches*rounds)
			var wg sync.WaitGroup
			wg.Go(func() {
				for n := range rounds * batches {
					w, err := k.Writer(t.Context(), flow.TaskInfo{Generation: uint64(n + 1)})
					if err != nil {
						t.Error(err)
						return
					}
					if err := w.Write(t.Context(), records(readings(n*1000, n*1000+1000)...)); err != nil {
						t.Error(err)
						return
					}
					blocks, err := w.Seal(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					for {
						_, err := k.Deliver(t.Context(), blocks)
						if err == nil {
							break
						}
						if !flow.IsTransient(err) {
							t.Errorf("batch %d: %v", n, err)
							return
						}
						if flow.SystemClock().Sleep(t.Context(), 20*time.Millisecond) != nil {
							return
						}
					}
					delivered <- n
				}
			})
			// At most rounds kills, each somewhere inside a stretch of batches.
			for round := range rounds {
				until := round*batches + rand.IntN(batches)
				for n := range delivered {
					if n >= until {
						break
					}
				}
				require.NoError(t, set.Kill(context.Background(), services.ClickHouse))
				require.NoError(t, set.Start(context.Background(), services.ClickHouse))
			}
			wg.Wait()
			want := fmt.Sprint(rounds * batches * 1000)
			require.Equal(t, want+" "+want, s.one(t, "SELECT count(), uniqExact(seq) FROM @kept FINAL"))
			t.Logf("%d retries, %d rows repeated; %s rows before folding", e.count("retries"), e.count("repeats"), s.one(t, "SELECT count() FROM @kept"))
			require.NotContains(t, strings.ToLower(e.log.String()), "error")
		})
	}
}
