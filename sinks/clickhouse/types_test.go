package clickhouse

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

type deviceID string

type embedded struct {
	B bool `ch:"b"`
}

type everything struct {
	embedded
	S      string             `ch:"s"`
	Named  deviceID           `ch:"named,LowCardinality(String)"`
	Bytes  []byte             `ch:"bytes"`
	Fixed  string             `ch:"fixed,FixedString(4)"`
	Enum   string             `ch:"enum,Enum8('on' = 1, 'off' = -2)"`
	I8     int8               `ch:"i8"`
	I16    int16              `ch:"i16"`
	I32    int32              `ch:"i32"`
	I64    int64              `ch:"i64"`
	I      int                `ch:"i"`
	U8     uint8              `ch:"u8"`
	U16    uint16             `ch:"u16"`
	U32    uint32             `ch:"u32"`
	U64    uint64             `ch:"u64"`
	F32    float32            `ch:"f32"`
	F64    float64            `ch:"f64"`
	Wide   uint8              `ch:"wide,Int64"`
	T3     time.Time          `ch:"t3"`
	T9     flow.Timestamp     `ch:"t9,DateTime64(9)"`
	T6     flow.Timestamp     `ch:"t6,DateTime64(6, 'Europe/Berlin')"`
	T0     time.Time          `ch:"t0,DateTime"`
	Day    time.Time          `ch:"day,Date"`
	Day32  flow.Timestamp     `ch:"day32,Date32"`
	UUID   uuid.UUID          `ch:"uuid"`
	Null   *float64           `ch:"null"`
	NullT  *time.Time         `ch:"null_t"`
	NullS  string             `ch:"null_s,Nullable(String)"`
	None   flow.Timestamp     `ch:"none,Nullable(DateTime64(3))"`
	Words  []string           `ch:"words,Array(LowCardinality(String))"`
	Nums   []float64          `ch:"nums"`
	Tags   map[string]string  `ch:"tags"`
	Values map[string]float64 `ch:"values,Map(LowCardinality(String), Float64)"`
	Dur    time.Duration      `ch:"dur"`
	Simple float64            `ch:"simple,SimpleAggregateFunction(max, Float64)"`
	skip   int                //nolint:unused // not exported: left out
	Out    chan int           `ch:"-"`
}

func everyRow() []everything {
	at := time.Date(2024, 2, 29, 23, 59, 58, 123_456_789, time.UTC)
	old := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	f := -1.5
	return []everything{
		{
			embedded: embedded{true}, S: "Grüße\x00\n", Named: "a", Bytes: []byte{0, 255}, Fixed: "ab", Enum: "off",
			I8: -128, I16: -32768, I32: math.MinInt32, I64: math.MinInt64, I: -1, U8: 255, U16: 65535, U32: math.MaxUint32, U64: math.MaxUint64,
			F32: 1.5, F64: math.Inf(-1), Wide: 200, T3: at, T9: flow.TimestampOf(at), T6: flow.TimestampOf(at), T0: at, Day: at, Day32: flow.TimestampOf(at),
			UUID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Null: &f, NullT: &at, NullS: "x", None: flow.TimestampOf(at),
			Words: []string{"p", "q", "p"}, Nums: []float64{1, 2}, Tags: map[string]string{"k": "v"}, Values: map[string]float64{"t": 20.5},
			Dur: time.Second, Simple: 3,
		},
		{Enum: "on", T3: old, T9: flow.TimestampOf(old), T6: flow.TimestampOf(old.Add(time.Microsecond)), T0: time.Unix(0, 0), Day: time.Unix(0, 0), Day32: flow.TimestampOf(old), None: flow.None},
	}
}

func TestTypesRoundTrip(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		require.NoError(t, CreateTable[everything](t.Context(), s.conn, "everything", OrderBy("i64")))
		k := Rows[everything](s.conn, "everything")
		open(t, k)
		blocks := append(seal(t, k, everyRow()...), seal(t, k, everyRow()...)...)
		// What the outbox keeps is the same block.
		data, err := seal(t, k, everyRow()...)[0].AppendBinary([]byte("kept"))
		require.NoError(t, err)
		require.Equal(t, "kept", string(data[:4]))
		decoded, err := k.DecodeBlock(data[4:])
		require.NoError(t, err)
		deliver(t, k, append(blocks, decoded))
		got := s.rows(t, "SELECT * FROM @everything ORDER BY i64 FORMAT JSONEachRow")
		require.Len(t, got, 6)
		want := []string{
			`{"b":true,"s":"Grüße\u0000\n","named":"a","bytes":"\u0000ÿ","fixed":"ab\u0000\u0000","enum":"off","i8":-128,"i16":-32768,"i32":-2147483648,` +
				`"i64":-9223372036854775808,"i":-1,"u8":255,"u16":65535,"u32":4294967295,"u64":18446744073709551615,"f32":1.5,"f64":null,"wide":200,` +
				`"t3":"2024-02-29 23:59:58.123","t9":"2024-02-29 23:59:58.123456789","t6":"2024-03-01 00:59:58.123456","t0":"2024-02-29 23:59:58",` +
				`"day":"2024-02-29","day32":"2024-02-29","uuid":"00112233-4455-6677-8899-aabbccddeeff","null":-1.5,"null_t":"2024-02-29 23:59:58.123",` +
				`"null_s":"x","none":"2024-02-29 23:59:58.123","words":["p","q","p"],"nums":[1,2],"tags":{"k":"v"},"values":{"t":20.5},"dur":1000000000,"simple":3}`,
			`{"b":false,"s":"","named":"","bytes":"","fixed":"\u0000\u0000\u0000\u0000","enum":"on","i8":0,"i16":0,"i32":0,"i64":0,"i":0,"u8":0,"u16":0,"u32":0,"u64":0,` +
				`"f32":0,"f64":0,"wide":0,"t3":"1900-01-01 00:00:00.000","t9":"1900-01-01 00:00:00.000000000","t6":"1900-01-01 01:00:00.000001",` +
				`"t0":"1970-01-01 00:00:00","day":"1970-01-01","day32":"1900-01-01","uuid":"00000000-0000-0000-0000-000000000000","null":null,"null_t":null,` +
				`"null_s":"","none":null,"words":[],"nums":[],"tags":{},"values":{},"dur":0,"simple":0}`,
		}
		for i, row := range got {
			require.JSONEq(t, want[i/3], strings.ToValidUTF8(row, "ÿ"), "row %d", i)
		}
		// The reject's form says the same.
		b := seal(t, k, everyRow()...)[0].(*block)
		require.JSONEq(t, strings.NewReplacer(`"\u0000ÿ"`, `"\u0000\ufffd"`, `"f64":null`, `"f64":"-Inf"`,
			`"2024-02-29 23:59:58.123456789"`, `"2024-02-29T23:59:58.123456789Z"`, `"2024-03-01 00:59:58.123456"`, `"2024-02-29T23:59:58.123456Z"`,
			`"2024-02-29 23:59:58.123"`, `"2024-02-29T23:59:58.123Z"`, `"2024-02-29 23:59:58"`, `"2024-02-29T23:59:58Z"`).Replace(want[0]), string(b.appendJSON(nil, 0)))
	})
}

func TestHandWrittenColumns(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		type row struct {
			id   string
			at   time.Time
			tags map[string]string
		}
		columns := []Column[row]{
			String("id", func(r *row) string { return r.id }).Type("LowCardinality(String)"),
			Time("at", func(r *row) time.Time { return r.at }),
			Map("tags", func(r *row) map[string]string { return r.tags }),
			Int64("len", func(r *row) int64 { return int64(len(r.id)) }),
		}
		require.NoError(t, CreateTable[row](t.Context(), s.conn, "hand", TableColumns(columns...), OrderBy("id")))
		k := Sink(s.conn, "hand", func(n int) row {
			return row{fmt.Sprint("id", n), time.Unix(int64(n), 0), map[string]string{"n": fmt.Sprint(n)}}
		}, Columns(columns...))
		open(t, k)
		deliver(t, k, seal(t, k, 1, 20))
		require.Equal(t, []string{"id1 1970-01-01 00:00:01.000 {'n':'1'} 3", "id20 1970-01-01 00:00:20.000 {'n':'20'} 4"}, s.rows(t, "SELECT * FROM @hand ORDER BY len"))
		var id string
		scanAll(t, s.conn, "SELECT id FROM hand WHERE len = 4", func(r driver.Rows) error { return r.Scan(&id) })
		require.Equal(t, "id20", id)
	})
}

// Every value that a column cannot hold is the error of its record, and the records before and behind it are written.
func TestValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	type row struct {
		At   flow.Timestamp `ch:"at"`
		Time time.Time      `ch:"time,DateTime"`
		Enum string         `ch:"enum,Enum8('a' = 1)"`
		Fix  []byte         `ch:"fix,FixedString(2)"`
		Tags []string       `ch:"tags,Array(Enum8('a' = 1))"`
		Ptr  *time.Time     `ch:"ptr"`
	}
	good := row{Time: time.Unix(1, 0), Enum: "a"}
	bad := func(change func(r *row)) row { r := good; change(&r); return r }
	early := time.Date(1899, 12, 31, 23, 59, 59, 0, time.UTC)
	for what, r := range map[string]row{
		`column "at": time none does not fit DateTime64(3, 'UTC'), which holds 1900 to 2262`:                            bad(func(r *row) { r.At = flow.None }),
		`column "at": time end of time does not fit`:                                                                    bad(func(r *row) { r.At = flow.EndOfTime }),
		`column "at": time 1899-12-31T23:59:59Z does not fit`:                                                           bad(func(r *row) { r.At = flow.TimestampOf(early) }),
		`column "at": time 2262-04-11T23:47:16`:                                                                         bad(func(r *row) { r.At = flow.TimestampOf(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) }),
		`column "time": time 1969-12-31 23:59:59 +0000 UTC does not fit DateTime, which holds 1970-01-01 to 2106-02-07`: bad(func(r *row) { r.Time = time.Unix(-1, 0).UTC() }),
		`column "enum": "b" is not in Enum8('a' = 1)`:                                                                   bad(func(r *row) { r.Enum = "b" }),
		`column "fix": 3 bytes do not fit FixedString(2)`:                                                               bad(func(r *row) { r.Fix = []byte("abc") }),
		`column "tags": "b" is not in`:                                                                                  bad(func(r *row) { r.Tags = []string{"a", "b"} }),
		`column "ptr": time 1899-12-31 23:59:59 +0000 UTC does not fit`:                                                 bad(func(r *row) { r.Ptr = &early }),
	} {
		t.Run(what, func(t *testing.T) {
			k := Rows[row](New(Config{}), "t").(*sink[row, row])
			require.NoError(t, k.err)
			k.start(flow.SinkRuntime{})
			w, err := k.Writer(t.Context(), flow.TaskInfo{})
			require.NoError(t, err)
			batch := records(good, good, r, good)
			var at *flow.RecordError
			require.ErrorAs(t, w.Write(t.Context(), batch), &at)
			require.Equal(t, 2, at.Index)
			require.ErrorContains(t, at, what)
			require.NoError(t, w.Write(t.Context(), batch[3:]))
			blocks, err := w.Seal(t.Context())
			require.NoError(t, err)
			require.Len(t, blocks, 1)
			b := blocks[0].(*block)
			require.Equal(t, 3, b.Rows())
			require.NoError(t, checkColumns(b.names, b.cols, 3))
		})
	}
}

func TestRowTypesThatDoNotWork(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	for what, k := range map[string]any{
		"row type int is not a struct":                        Rows[int](c, "t"),
		"field struct { A int }.A has no `ch:\"column\"` tag": Rows[struct{ A int }](c, "t"),
		`column "a" is named twice`: Rows[struct {
			A int `ch:"a"`
			B int `ch:"a"`
		}](c, "t"),
		"no column type here for the Go type chan int": Rows[struct {
			A chan int `ch:"a"`
		}](c, "t"),
		"Go type **int": Rows[struct {
			A **int `ch:"a"`
		}](c, "t"),
		`column "a" is filled by Version and by field`: Rows[struct {
			A uint64 `ch:"a"`
		}](c, "t", Version("a")),
		"has no columns":              Rows[struct{}](c, "t"),
		"MaxRows 0":                   Rows[reading](c, "t", MaxRows(0)),
		"no table named":              Rows[reading](c, ""),
		"for rows of clickhouse.read": Rows[reading](c, "t", Columns(Int64("n", func(*int) int64 { return 0 }))),
		"names no column":             Rows[reading](c, "t", Columns[reading]()),
		"compression \"gz\"":          Rows[reading](New(Config{Compression: "gz"}), "t"),
	} {
		t.Run(what, func(t *testing.T) {
			var err error
			switch k := k.(type) {
			case flow.Sink[int]:
				err = k.Open(t.Context(), flow.SinkRuntime{})
			case flow.Sink[reading]:
				err = k.Open(t.Context(), flow.SinkRuntime{})
			case interface{ opened() error }:
				err = k.opened()
			}
			require.ErrorContains(t, err, what)
		})
	}
}

func (s *core) opened() error { return s.err }
