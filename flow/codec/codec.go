// Package codec turns values into bytes and back: the payloads of sources and sinks, and the state of user types.
package codec

import "errors"

// Codec encodes and decodes values of one type. It is shared by all tasks and must be safe for concurrent use.
type Codec[T any] interface {
	// Decode fills *v, which is zero, from data. *v must not alias data, whose buffer may be reused, unless the codec is Aliasing.
	Decode(data []byte, v *T) error
	// Append appends the encoding of *v to b.
	Append(b []byte, v *T) ([]byte, error)
	// ID names the encoding, stable across versions of a program that can read each other's bytes ("json", "cbor/2").
	ID() string
}

// Aliasing is implemented by codecs whose decoded values may point into data. A source that reuses the memory of payloads must copy
// them first for such a codec (Aliases tells), or refuse it.
type Aliasing interface {
	// AliasesPayload tells whether values that this codec decodes may point into data.
	AliasesPayload() bool
}

// Aliases tells whether values that c decodes may point into the payload.
func Aliases[T any](c Codec[T]) bool {
	a, ok := c.(Aliasing)
	return ok && a.AliasesPayload()
}

// ErrTrailing says that data goes on behind the value.
var ErrTrailing = errors.New("data behind the value")
