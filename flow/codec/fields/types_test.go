package fields_test

import (
	"encoding/json"
	"time"
)

//go:generate go run ../cmd/millrace-codec -type Everything,Stamped,Reading

// Everything has a field of each kind that the generator knows.
type Everything struct {
	Str     string   `json:"str"`
	Level   Level    `json:"level"`
	Int     int      `json:"int"`
	I8      int8     `json:"i8"`
	I16     int16    `json:"i16"`
	I32     rune     `json:"i32"`
	I64     int64    `json:"i64"`
	Count   Count    `json:"count"`
	U       uint     `json:"u"`
	U8      uint8    `json:"u8"`
	U64     uint64   `json:"u64"`
	F32     float32  `json:"f32"`
	F64     float64  `json:"f64"`
	Celsius Celsius  `json:"celsius"`
	OK      bool     `json:"ok"`
	Maybe   *float64 `json:"maybe"`
	Name    *string  `json:"name,omitempty"`
	Deep    **int    `json:"deep"`
	Floats  []float64
	Words   Words           `json:"words"`
	Grid    [][]int         `json:"grid"`
	Three   [3]int16        `json:"three"`
	Blob    []byte          `json:"blob"`
	At      time.Time       `json:"at"`
	Times   []time.Time     `json:"times"`
	Raw     json.RawMessage `json:"raw"`
	Site    Site            `json:"site"`
	Other   *Site           `json:"other"`
	Sites   []Site          `json:"sites"`
	Parent  *Everything     `json:"parent"`
	Nested  struct {
		Name string `json:"name"`
		Opt  int    `json:"opt,omitempty"`
	} `json:"nested"`
	Ünï    string   `json:"ünï"`
	Dash   int      `json:"-,"` //nolint:staticcheck // the name "-" is meant
	Hidden int      `json:"-"`
	Long   string   `json:"a-name-of-more-than-sixteen-bytes"`
	Empty  Empty    `json:"empty"`
	lower  int      //nolint:unused // to be passed over
	Opt    Optional `json:"opt"`
}

type (
	// Level is a named string.
	Level string
	// Count is a named number.
	Count uint16
	// Celsius is another.
	Celsius float64
	// Words are a named slice.
	Words []string
	// Empty has no fields.
	Empty struct{}
)

// Site is a struct in a struct.
type Site struct {
	Name string  `json:"name"`
	Lat  float64 `json:"lat"`
	Kids []Site  `json:"kids,omitempty"`
}

// Optional has nothing that must be written.
type Optional struct {
	S string    `json:"s,omitempty"`
	N int64     `json:"n,omitempty"`
	B bool      `json:"b,omitempty"`
	F []float32 `json:"f,omitempty"`
	T time.Time `json:"t,omitzero"`
	R int       `json:"r"`
	P *int      `json:"p,omitzero"`
}

// Stamped has times that are numbers.
type Stamped struct {
	S  time.Time  `json:"s" codec:"s"`
	MS time.Time  `json:"ms" codec:"ms"`
	US *time.Time `json:"us" codec:"us"`
	NS time.Time  `json:"ns" codec:"ns"`
	R  time.Time  `json:"r" codec:"rfc3339"`
}

// Reading is the reference workload's.
type Reading struct {
	DeviceID    string  `json:"deviceId"`
	TS          int64   `json:"ts"`
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
	FW          string  `json:"fw"`
	Seq         int64   `json:"seq"`
}
