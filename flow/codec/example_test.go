package codec_test

import (
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow/codec"
)

type Reading struct {
	Device      string  `json:"device"`
	Temperature float64 `json:"temperature"`
}

func ExampleJSON() {
	c := codec.JSON[Reading]()
	var r Reading
	fmt.Println(c.Decode([]byte(`{"device":"a","temperature":21.5}`), &r), r)
	fmt.Println(errors.Is(c.Decode([]byte(`{"device":"a"}{"device":"b"}`), &r), codec.ErrTrailing))
	b, err := c.Append(nil, &Reading{"b", 4})
	fmt.Println(string(b), err)
	// Output:
	// <nil> {a 21.5}
	// true
	// {"device":"b","temperature":4} <nil>
}

func ExampleCBOR() {
	c := codec.CBOR[Reading]()
	b, err := c.Append(nil, &Reading{"a", 21.5})
	fmt.Println(len(b), err)
	var r Reading
	fmt.Println(c.Decode(b, &r), r)
	// Output:
	// 31 <nil>
	// <nil> {a 21.5}
}

func ExampleString() {
	var s string
	fmt.Println(codec.String().Decode([]byte("as it is"), &s), s)
	// Output: <nil> as it is
}

func ExampleBytes() {
	b, err := codec.Bytes().Append([]byte("> "), &[]byte{'h', 'i'})
	fmt.Println(string(b), err)
	// Output: > hi <nil>
}
