//go:build (!amd64 && !arm64) || go1.28

package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
)

func newJSON[T any]() Codec[T] { return stdJSON[T]{} }

type stdJSON[T any] struct{}

func (stdJSON[T]) ID() string { return "json" }

func (stdJSON[T]) Decode(data []byte, v *T) error {
	if blank(data) {
		return errEmpty("JSON")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return jsonError(data, err)
	}
	return nil
}

func (stdJSON[T]) Append(b []byte, v *T) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return b, fmt.Errorf("encode JSON: %w", err)
	}
	out := buf.Bytes()
	return out[:len(out)-1], nil
}
