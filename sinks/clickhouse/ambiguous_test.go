package clickhouse

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// cutter is a TCP proxy that can lose the answer to an insert: the server does the work, the connection breaks.
type cutter struct {
	ln     net.Listener
	to     string
	wg     sync.WaitGroup
	arm    atomic.Bool // cut the next insert
	cuts   atomic.Int32
	stored func() bool // the server has done the work
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{ln: ln, to: to}
	c.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); c.wg.Wait() })
	return c
}

// afterInsert is how many bytes behind the word INSERT are the insert's data for certain.
const afterInsert = 2000

func (c *cutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = client.Close()
		return
	}
	end := func() { _, _ = client.Close(), server.Close() }
	defer end()
	var cut atomic.Bool
	c.wg.Go(func() {
		defer end()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if cut.Load() {
				continue
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	inserting, sent := false, 0
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if c.arm.Load() {
			inserting = inserting || bytes.Contains(buf[:n], []byte("INSERT"))
			if inserting {
				sent += n
			}
			if sent > afterInsert {
				c.arm.Store(false)
				c.cuts.Add(1)
				cut.Store(true)
				c.wg.Go(func() {
					for !c.stored() {
						_ = flow.SystemClock().Sleep(context.Background(), 10*time.Millisecond) // the server has no signal for it
					}
					end()
				})
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// An insert whose answer was lost is sent again: under a new token where the table is not replicated, since there the server may
// have kept the token and lost the rows; under the same one where it is.
func TestLostAnswer(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		for _, replicated := range []bool{false, true} {
			name := map[bool]string{false: "single", true: "replicated"}[replicated]
			t.Run(name, func(t *testing.T) {
				proxy := newCutter(t, s.cfg.Addr[0])
				cfg := s.cfg
				cfg.Addr, cfg.Compression = []string{proxy.ln.Addr().String()}, NoCompression
				conn := New(cfg)
				defer func() { require.NoError(t, conn.Close()) }()
				require.NoError(t, CreateTable[reading](t.Context(), conn, name, Replacing("version"), OrderBy("seq"), DedupWindow(100)))
				k := Rows[reading](conn, name, Version("version"), MaxRows(500)).(*sink[reading, reading])
				e := open[reading](t, k)
				k.replicated = replicated // the window of a single server stands for the replicas' log
				s.exec(t, "SYSTEM STOP MERGES "+name)
				blocks := seal[reading](t, k, readings(0, 500)...)
				token := blocks[0].(*block).token
				proxy.stored = func() bool {
					rows, err := s.set.Query(context.Background(), "SELECT count() FROM "+s.cfg.Database+"."+name)
					return err != nil || rows == "500\n"
				}
				proxy.arm.Store(true)
				_, err := k.Deliver(t.Context(), blocks)
				require.True(t, flow.IsTransient(err), "%v", err)
				require.Zero(t, codeOf(err))
				require.Equal(t, int32(1), proxy.cuts.Load())
				require.True(t, k.pending[0].parts[0].unknown)
				// Blocks that come meanwhile do not join the insert, whose bytes must not change under its token.
				more := seal[reading](t, k, readings(500, 510)...)
				require.NoError(t, k.plan(append(blocks, more...)))
				require.Len(t, k.pending, 2)
				require.Empty(t, deliver[reading](t, k, append(blocks, more...)))
				require.Equal(t, int64(1), e.count("retries"))
				require.Equal(t, "510 510", s.one(t, "SELECT count(), uniqExact(seq) FROM @"+name+" FINAL"))
				tokens := s.one(t, "SELECT count() FROM @"+name)
				if replicated {
					require.Zero(t, e.count("repeats"))
					require.Equal(t, "510", tokens, "the server drops the repeat by token %s", token)
					return
				}
				require.Equal(t, int64(500), e.count("repeats"))
				require.Equal(t, "1010", tokens)
			})
		}
	})
}

// A first attempt that still runs is ended, or waited for, before the second one starts.
func TestRunningAttemptIsSettledFirst(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE slow (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64, nap UInt8 MATERIALIZED sleepEachRow(0.002)) ENGINE = MergeTree ORDER BY seq")
		cfg := s.cfg
		cfg.ReadTimeout = 300 * time.Millisecond // the insert takes longer
		conn := New(cfg)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		k := Rows[reading](s.conn, "slow").(*sink[reading, reading])
		open[reading](t, k)
		k.conn = conn
		blocks := seal[reading](t, k, readings(0, 500)...)
		_, err := k.Deliver(t.Context(), blocks)
		require.True(t, flow.IsTransient(err), "%v", err)
		first := k.pending[0].parts[0].queryID
		k.conn = s.conn
		require.Empty(t, deliver[reading](t, k, blocks))
		s.exec(t, "SYSTEM FLUSH LOGS")
		end := "SELECT toUnixTimestamp64Micro(max(event_time_microseconds)) FROM system.query_log WHERE query_id = " + literal(first)
		began := "SELECT toUnixTimestamp64Micro(min(query_start_time_microseconds)) FROM system.query_log WHERE query_id LIKE 'millrace/" + k.storeID + "/%' AND query_id != " + literal(first)
		require.Less(t, s.one(t, end), s.one(t, began))
		require.Contains(t, []string{"500 500", "1000 500"}, s.one(t, "SELECT count(), uniqExact(seq) FROM @slow"))
	})
}

// What stands between us and the server is not the server: its errors say nothing about the insert, and a redirect is no success.
func TestAnswersOfProxies(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		body   string
		want   fate
	}{
		{200, "", "", -1},
		{200, "", "Code: 49. DB::Exception: late", unknown},
		{301, "", "", unknown}, {404, "", "no such route", unknown}, {429, "", "slow down", unknown}, {502, "", "bad gateway", unknown}, {504, "", "", unknown},
		{500, "242", "Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)", retry},
		{500, "252", "Code: 252. DB::Exception: Too many parts (3000)", retry},
		{500, "252", "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100)", split},
		{500, "319", "Code: 319. DB::Exception: Unknown status", unknown},
		{400, "27", "Code: 27. DB::Exception: Cannot parse", refused},
		{500, "9999", "Code: 9999. DB::Exception: new", refused},
		{404, "60", "Code: 60. DB::Exception: Table does not exist", stop},
		{403, "516", "Code: 516. DB::Exception: Authentication failed", stop},
	} {
		t.Run(http.StatusText(c.status)+c.code, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.code != "" {
					w.Header().Set("X-ClickHouse-Exception-Code", c.code)
				}
				if c.status == 301 {
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			conn := New(Config{Protocol: HTTP, Addr: []string{server.Listener.Addr().String()}, Password: "hidden"})
			defer func() { require.NoError(t, conn.Close()) }()
			k := Rows[reading](conn, "t").(*sink[reading, reading])
			k.start(flow.SinkRuntime{})
			b := seal[reading](t, k, readings(0, 3)...)[0].(*block)
			p := &part{to: 3, token: "t"}
			err := k.sendHTTP(t.Context(), b.names, b.cols, 3, p)
			if c.want < 0 {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			require.Equal(t, c.want, fateOf(err), "%v", err)
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}

// With several addresses the next one is used when nothing was sent to the first.
func TestNextAddress(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[reading](t.Context(), s.conn, "second"))
		cfg := s.cfg
		cfg.Addr = append([]string{"127.0.0.1:1"}, cfg.Addr...)
		conn := New(cfg)
		t.Cleanup(func() { require.NoError(t, conn.Close()) })
		k := Rows[reading](conn, "second")
		e := open(t, k)
		deliver(t, k, seal(t, k, readings(0, 5)...))
		require.Equal(t, "5", s.one(t, "SELECT count() FROM @second"))
		require.Zero(t, e.count("retries"))
	})
}

func TestNothingSentIsNotAmbiguous(t *testing.T) {
	for _, p := range []Protocol{Native, HTTP} {
		conn := New(Config{Protocol: p, Addr: []string{"127.0.0.1:1"}})
		k := Rows[reading](conn, "t").(*sink[reading, reading])
		e := &engine{}
		k.start(e.runtime())
		a, b, c := seal[reading](t, k, readings(0, 3)...), seal[reading](t, k, readings(3, 6)...), seal[reading](t, k, readings(6, 9)...)
		_, err := k.Deliver(t.Context(), append(a, b...))
		require.True(t, flow.IsTransient(err))
		require.ErrorContains(t, err, "127.0.0.1:1")
		require.Len(t, k.pending, 1)
		frozen := *k.pending[0].parts[0]
		_, err = k.Deliver(t.Context(), append(append(a, b...), c...))
		require.True(t, flow.IsTransient(err))
		require.Len(t, k.pending, 2)
		require.Equal(t, frozen.token, k.pending[0].parts[0].token)
		require.False(t, k.pending[0].parts[0].unknown)
		require.Zero(t, e.count("repeats"))
		// Another unit's call leaves the insert alone.
		_, err = k.Deliver(t.Context(), c)
		require.True(t, flow.IsTransient(err))
		require.Len(t, k.pending, 2)
		require.Equal(t, []bool{false, true}, []bool{k.pending[0].wanted, k.pending[1].wanted})
		require.Equal(t, 2, k.pending[0].parts[0].tries)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = k.Deliver(ctx, c)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, conn.Close())
		require.NoError(t, conn.Close())
		require.False(t, strings.Contains(err.Error(), "password"))
	}
}
