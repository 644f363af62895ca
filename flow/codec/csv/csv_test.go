package csv_test

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/csv"
)

type row struct {
	Device string     `csv:"device"`
	At     time.Time  `csv:"at" codec:"ms"`
	C      float64    `csv:"c"`
	N      int8       `csv:"n,omitempty"`
	U      uint16     `csv:"u"`
	OK     bool       `csv:"ok"`
	Maybe  *float32   `csv:"maybe"`
	When   *time.Time `csv:"when"`
	Addr   netip.Addr `csv:"addr,omitempty"`
	Skip   func()     `csv:"-"`
}

var when = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func rows() []row {
	f := float32(0.1)
	return []row{
		{Device: "a,\"b\"\nc", At: time.UnixMilli(1700000000123).UTC(), C: -0.5, N: -3, U: 65535, OK: true, Maybe: &f, When: &when, Addr: netip.MustParseAddr("::1")},
		{Device: "", At: time.UnixMilli(-1).UTC(), C: 5e-324},
	}
}

const text = "device,at,c,n,u,ok,maybe,when,addr\n\"a,\"\"b\"\"\nc\",1700000000123,-0.5,-3,65535,true,0.1,2026-01-02T03:04:05.000000006Z,::1\n,-1,5e-324,,0,false,,,\n"

func TestBringsBackWhatWentIn(t *testing.T) {
	t.Parallel()
	c := csv.Batch[row](csv.Header())
	in := rows()
	b, err := c.Append([]byte("prefix"), &in)
	require.NoError(t, err)
	require.Equal(t, "prefix"+text, string(b))
	var got []row
	require.NoError(t, c.Decode(b[6:], &got))
	clear(b)
	require.Equal(t, in, got, "nothing of the payload is kept")
	require.Equal(t, "csv/header", c.ID())

	one := csv.Codec[row]()
	for _, want := range in {
		b, err := one.Append(nil, &want)
		require.NoError(t, err)
		var got row
		require.NoError(t, one.Decode(b, &got))
		require.Equal(t, want, got)
	}
	require.Equal(t, "csv", one.ID())
	var each []row
	require.NoError(t, csv.Each(context.Background(), in, func(r row) { each = append(each, r) }))
	require.Equal(t, in, each)
}

func TestColumns(t *testing.T) {
	t.Parallel()
	type small struct {
		A int
		B string `csv:"b"`
	}
	var s small
	require.NoError(t, csv.Codec[small](csv.Header()).Decode([]byte("\xef\xbb\xbfb,A\r\nx,1\r\n"), &s))
	require.Equal(t, small{1, "x"}, s)
	require.NoError(t, csv.Codec[small](csv.Columns("b", "A"), csv.Comma(';'), csv.Comment('#')).Decode([]byte("# c\ny;2"), &s))
	require.Equal(t, small{2, "y"}, s)
	s = small{}
	require.NoError(t, csv.Codec[small](csv.Header(), csv.Loose()).Decode([]byte("z,A\n?,3\n"), &s))
	require.Equal(t, small{A: 3}, s)
	loose := csv.Codec[small](csv.Columns("A", "z"), csv.Loose())
	require.NoError(t, loose.Decode([]byte("4,?\n"), &s))
	b, err := loose.Append(nil, &s)
	require.NoError(t, err)
	require.Equal(t, "4,\n", string(b))
	for _, want := range []small{{B: "#x"}, {B: "#\"x"}} {
		c := csv.Codec[small](csv.Columns("b", "A"), csv.Comment('#'))
		b, err := c.Append(nil, &want)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b, &s))
		require.Equal(t, want, s)
	}
	type single struct{ S string }
	for _, want := range []single{{""}, {"a\"b"}} {
		b, err := csv.Codec[single]().Append(nil, &want)
		require.NoError(t, err)
		var got single
		require.NoError(t, csv.Codec[single]().Decode(b, &got))
		require.Equal(t, want, got)
	}
	require.ErrorContains(t, csv.Codec[small](csv.Columns("b")).Decode(nil, &s), `the column "A" is missing`)
	require.ErrorContains(t, csv.Codec[small](csv.Columns("b", "A", "b")).Decode(nil, &s), `the column "b" comes twice`)
}

func TestRejects(t *testing.T) {
	t.Parallel()
	good := strings.SplitN(text, "\n", 2)
	line := func(s string) string { return good[0] + "\n" + s }
	for data, want := range map[string]string{
		"":                                             "has no header",
		good[0] + "\n":                                 "has no row",
		"device,at\n":                                  `header: the column "c" is missing`,
		good[0] + ",x\n":                               `header: the column "x" is not known`,
		good[0] + ",c\n":                               `header: the column "c" comes twice`,
		line("a,1\n"):                                  "line 2 has 2 cells for 9 columns",
		line("a,1,2,3,4,true,,,,5\n"):                  "line 2 has 10 cells for 9 columns",
		line("a,1,warm,3,4,true,,,\n"):                 `line 2, byte 5 of it, column "c": "warm" is not a number`,
		line("a,1,,3,4,true,,,\n"):                     `column "c": the cell is empty: tag the field`,
		line("a,1,1,300,4,true,,,\n"):                  `column "n": 300 does not fit int8`,
		line("a,1,1,3,-4,true,,,\n"):                   `column "u": "-4" is not a whole number that is not negative`,
		line("a,1,1,3,4,yes,,,\n"):                     `column "ok": "yes" is not true or false`,
		line("a,1,NaN,3,4,true,,,\n"):                  `"NaN" is not a finite number`,
		line("a,1.5,1,3,4,true,,,\n"):                  `column "at": "1.5" is not a whole number since 1970`,
		line("a,1, 1,3,4,true,,,\n"):                   `" 1" is not a number`,
		line("a,1,1,3,4,true,x,,\n"):                   `column "maybe": "x" is not a number`,
		line("a,1,1,3,4,true,,now,\n"):                 `column "when": "now" is not a time of RFC 3339`,
		line("a,1,1,3,4,true,,,x\n"):                   `column "addr": "x" does not fit netip.Addr`,
		line("\"a,1\n"):                                `parse error on line 2, column 6: extraneous or missing " in quoted-field`,
		line("a\"b,1\n"):                               `parse error on line 2, column 2: bare " in non-quoted-field`,
		line("a,1,1,3,4,true,,,\na,1,1,3,4,true,,,\n"): "line 3: data behind the value",
		line("a,1," + strings.Repeat("9x", 50) + ",3,4,true,,,\n"): `"9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x…" is not a number`,
	} {
		b := []byte(data)
		err := csv.Codec[row](csv.Header()).Decode(b, &row{})
		clear(b)
		require.ErrorContains(t, err, want, data)
		require.ErrorContains(t, err, "decode CSV: ")
	}
	require.ErrorIs(t, csv.Codec[row]().Decode([]byte(strings.Repeat("a,1,1,3,4,true,,,\n", 2)), &row{}), codec.ErrTrailing)
	require.NoError(t, csv.Batch[row]().Decode(nil, new([]row)))
}

func TestRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	type hidden struct{ a int } //nolint:unused // to be refused
	type deep struct{ A []int }
	type unit struct {
		A int `codec:"ms"`
	}
	type badUnit struct {
		A time.Time `codec:"h"`
	}
	type badTag struct {
		A int `csv:"a,inline"`
	}
	type twice struct {
		A int
		B int `csv:"A"`
	}
	for want, err := range map[string]error{
		"unexported field a":  csv.Codec[hidden]().Decode(nil, &hidden{}),
		"[]int does not fit":  csv.Codec[deep]().Decode(nil, &deep{}),
		"is for times":        csv.Codec[unit]().Decode(nil, &unit{}),
		`codec:"h" is not`:    csv.Codec[badUnit]().Decode(nil, &badUnit{}),
		`option "inline"`:     csv.Codec[badTag]().Decode(nil, &badTag{}),
		"int is none":         csv.Codec[int]().Decode(nil, new(int)),
		"has no fields":       csv.Codec[struct{}]().Decode(nil, new(struct{})),
		"two fields have the": csv.Codec[twice]().Decode(nil, &twice{}),
	} {
		require.ErrorContains(t, err, want)
	}
	for want, r := range map[string]row{
		`column "c": NaN is not a finite`: {C: math.NaN()}, "CR LF in a text": {Device: "a\r\nb"}, "row 1": {C: math.Inf(1)},
	} {
		b, err := csv.Codec[row]().Append([]byte("prefix"), &r)
		require.ErrorContains(t, err, want)
		require.Equal(t, "prefix", string(b))
	}
	type stamped struct {
		T time.Time `codec:"ns"`
		S *string
	}
	_, err := csv.Codec[stamped]().Append(nil, &stamped{T: time.Unix(1e12, 0)})
	require.ErrorContains(t, err, "use milliseconds")
	_, err = csv.Codec[stamped]().Append(nil, &stamped{T: when, S: new(string)})
	require.ErrorContains(t, err, "would be read as nil")
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte("at,device,c,n,u,ok,maybe,when,addr\r\n1,\"\r\r\n\",1,1,1,T,,,\r\n"))
	c := csv.Batch[row](csv.Header())
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back []row
		if c.Decode(data, &v) != nil {
			return
		}
		b, err := c.Append(nil, &v)
		if err != nil {
			require.Regexp(t, "CR LF|year", err.Error())
			return
		}
		require.NoError(t, c.Decode(b, &back), "%q", b)
		again, err := c.Append(nil, &back)
		require.NoError(t, err)
		require.Equal(t, string(b), string(again))
		require.Len(t, back, len(v))
		for i := range v {
			require.Equal(t, v[i].Device, back[i].Device)
		}
	})
}

func ExampleCodec() {
	type Reading struct {
		Device  string    `csv:"device"`
		At      time.Time `csv:"ts" codec:"ms"`
		Celsius float64   `csv:"celsius"`
	}
	c := csv.Codec[Reading]()
	var r Reading
	fmt.Println(c.Decode([]byte("d1,1700000000000,21.5"), &r))
	fmt.Println(r.Device, r.At, r.Celsius)
	fmt.Println(c.Decode([]byte("d1,1700000000000,warm"), &r))
	b, err := c.Append(nil, &r)
	fmt.Printf("%q %v\n", b, err)
	// Output:
	// <nil>
	// d1 2023-11-14 22:13:20 +0000 UTC 21.5
	// decode CSV: line 1, byte 18 of it, column "celsius": "warm" is not a number
	// "d1,1700000000000,21.5\n" <nil>
}

func ExampleBatch() {
	type Reading struct {
		Device  string  `csv:"device"`
		Celsius float64 `csv:"celsius"`
	}
	var rows []Reading
	fmt.Println(csv.Batch[Reading](csv.Header()).Decode([]byte("celsius,device\n21.5,d1\n4,d2\n"), &rows), rows)
	// Output: <nil> [{d1 21.5} {d2 4}]
}
