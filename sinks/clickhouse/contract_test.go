package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

// The sink keeps the contract of flow.Sink on a real server, over both protocols, whatever the network does.
func TestContract(t *testing.T) {
	set := services.Isolated(t, services.Options{}, services.ClickHouse) // the faults make this engine abort at times
	var places atomic.Int64
	for _, p := range []Protocol{Native, HTTP} {
		t.Run(string(p), func(t *testing.T) {
			server := set.ClickHouseNative()
			if p == HTTP {
				server = set.ClickHouseHTTP()
			}
			cfg := Config{Addr: []string{server}, Protocol: p, DialTimeout: time.Second, ReadTimeout: 2 * time.Second}
			wrong := func(change func(*Config), table string, opts ...Option) func() flow.Sink[reading] {
				return func() flow.Sink[reading] {
					c := cfg
					change(&c)
					conn := New(c)
					return owning{Rows[reading](conn, table, opts...), conn}
				}
			}
			flowtest.SinkContract(t, flowtest.SinkSetup[reading]{
				New: func(t testing.TB) flowtest.SinkCase[reading] {
					table := fmt.Sprintf("contract_%x_%d", time.Now().UnixNano(), places.Add(1))
					query(t, set, "CREATE TABLE IF NOT EXISTS "+table+" (device String, at DateTime64(9, 'UTC'), value Float64, seq UInt64, "+
						"CONSTRAINT cold CHECK value < 1000000) ENGINE = MergeTree ORDER BY (device, at)")
					t.Cleanup(func() { _, _ = set.Query(context.Background(), "DROP TABLE "+table) })
					network := faults.New(t, server)
					cfg := cfg
					cfg.Addr = []string{network.Addr()}
					return flowtest.SinkCase[reading]{
						Sink: func() flow.Sink[reading] {
							conn := New(cfg)
							return owning{Rows[reading](conn, table, MaxRows(60)), conn}
						},
						Stored: func(t testing.TB) []int {
							var ids []int
							for line := range strings.Lines(query(t, set, "SELECT seq FROM "+table+" ORDER BY seq")) {
								id, err := strconv.Atoi(strings.TrimSpace(line))
								require.NoError(t, err)
								ids = append(ids, id)
							}
							return ids
						},
						Network: network,
					}
				},
				Record: func(id int) reading { return readings(id, id+1)[0] },
				Refused: map[string]func(id int) reading{
					"a time that the column cannot hold": func(id int) reading {
						r := readings(id, id+1)[0]
						r.At = flow.TimestampOf(time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC))
						return r
					},
					"a value that the table refuses": func(id int) reading {
						r := readings(id, id+1)[0]
						r.Value = 2_000_000
						return r
					},
				},
				Wrong: map[string]func() flow.Sink[reading]{
					"no table":               wrong(func(*Config) {}, ""),
					"MaxRows":                wrong(func(*Config) {}, "t", MaxRows(-1)),
					"protocol":               wrong(func(c *Config) { c.Protocol = "carrier pigeon" }, "t"),
					"contract_no_such_table": wrong(func(*Config) {}, "contract_no_such_table"),
				},
				Count: 300, Hold: 200 * time.Millisecond, Unordered: true,
				Repeats: true, // a table that is not replicated gets a block whose fate is unknown under a new token
			})
		})
	}
}

// owning is a sink with a connection of its own.
type owning struct {
	flow.Sink[reading]
	conn *Conn
}

func (o owning) Close(ctx context.Context) error {
	return errors.Join(o.Sink.Close(ctx), o.conn.Close())
}

// query asks again while the engine starts anew.
func query(t testing.TB, set *services.Set, sql string) string {
	t.Helper()
	var text string
	var err error
	require.Eventually(t, func() bool {
		text, err = set.Query(context.Background(), sql)
		return !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, io.EOF)
	}, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, err)
	return text
}
