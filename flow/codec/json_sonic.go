//go:build (amd64 || arm64) && !go1.28

package codec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/bytedance/sonic"
	"github.com/bytedance/sonic/encoder"
)

func newJSON[T any]() Codec[T] {
	c := sonicJSON[T]{api: sonic.Config{CopyString: true, ValidateString: true}.Froze()}
	// Compiling the type now keeps the first record from waiting for it. What cannot be compiled fails at the first record instead,
	// with an error that says why.
	_ = sonic.Pretouch(reflect.TypeFor[T]())
	return c
}

type sonicJSON[T any] struct{ api sonic.API }

func (c sonicJSON[T]) ID() string { return "json" }

func (c sonicJSON[T]) Decode(data []byte, v *T) error {
	if blank(data) {
		return errEmpty("JSON")
	}
	// The string aliases data; CopyString makes sonic copy what it keeps of it.
	if c.api.UnmarshalFromString(unsafe.String(unsafe.SliceData(data), len(data)), v) == nil {
		return nil
	}
	// sonic's errors alias data as well, and name fewer things. So the failing payload is decoded once more by encoding/json,
	// whose word is final.
	var again T
	err := json.Unmarshal(data, &again)
	*v = again
	if err != nil {
		return jsonError(data, err)
	}
	return nil
}

func (c sonicJSON[T]) Append(b []byte, v *T) ([]byte, error) {
	tail := b[len(b):]
	if err := encoder.EncodeInto(&tail, v, encoder.SortMapKeys|encoder.ValidateString|encoder.CompactMarshaler); err != nil {
		return b, fmt.Errorf("encode JSON: %w", err)
	}
	return append(b, tail...), nil
}
