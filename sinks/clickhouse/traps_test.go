package clickhouse

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// Clients and servers call these inserts a success and store nothing, or something else. Each must be an error before it is sent.

func offline(t *testing.T, opts ...Option) *sink[reading, reading] {
	t.Helper()
	k := Rows[reading](New(Config{}), "t", opts...).(*sink[reading, reading])
	require.NoError(t, k.err)
	k.start(flow.SinkRuntime{})
	return k
}

// Over HTTP clickhouse-go sends an empty body for columns of unequal length, and the server says 200.
func TestTrapUnequalColumnLengths(t *testing.T) {
	for _, p := range []Protocol{Native, HTTP} {
		k := offline(t)
		k.conn = New(Config{Protocol: p})
		blocks := seal[reading](t, k, readings(0, 10)...)
		blocks[0].(*block).cols[2].Truncate(9)
		_, err := k.Deliver(t.Context(), blocks)
		require.ErrorContains(t, err, `column "value" has 9 values for 10 rows`)
		require.False(t, flow.IsTransient(err))
		require.Error(t, newEncoder(LZ4).block(io.Discard, k.names, blocks[0].(*block).cols, 10))
	}
}

// Without a column list a server may answer with none, and appending then goes nowhere.
func TestTrapEmptyColumnList(t *testing.T) {
	k := offline(t)
	require.Equal(t, "INSERT INTO `default`.`t` (`device`, `at`, `value`, `seq`) FORMAT Native", k.statement(k.names))
	require.ErrorContains(t, newEncoder(LZ4).block(io.Discard, nil, nil, 1), "0 columns")
	require.Error(t, Rows[struct{}](New(Config{}), "t").Open(t.Context(), flow.SinkRuntime{}))
}

// An insert without rows is a success everywhere.
func TestTrapEmptyInsert(t *testing.T) {
	k := offline(t)
	w, err := k.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), nil))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	require.Empty(t, blocks)
	rejects, err := k.Deliver(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, rejects)
	set, err := k.takeBuffers()
	require.NoError(t, err)
	require.ErrorIs(t, newEncoder(LZ4).block(io.Discard, k.names, set.cols, 0), errNoRows)
}

// clickhouse-go writes a nil pointer into a column without NULL as the type's default.
func TestTrapNilBecomesDefault(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		s.exec(t, "CREATE TABLE strict (n UInt64) ENGINE = MergeTree ORDER BY n")
		err := Rows[struct {
			N *uint64 `ch:"n"`
		}](s.conn, "strict").Open(t.Context(), (&engine{}).runtime())
		require.ErrorContains(t, err, `column "n" is UInt64, which cannot hold every value of`)
		require.ErrorContains(t, err, "it would fit Nullable(UInt64)")
	})
}

// An int64 in a DateTime64 column is read as ticks, whatever was meant.
func TestTrapNumbersAreNotTimes(t *testing.T) {
	for _, typ := range []string{"DateTime64(3)", "DateTime", "Date", "Date32", "Enum8('a' = 1)", "Bool", "UUID"} {
		c, err := newColumn(typ)
		require.NoError(t, err)
		require.Nil(t, putNumber[int64](c), typ)
		require.Nil(t, putNumber[uint8](c), typ)
		require.Nil(t, putNumber[int8](c), typ)
	}
}
