// Package protobuf encodes generated messages of Protocol Buffers, and finds their event time and id by field options.
package protobuf

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/millrace-stream/millrace/flow/codec"
)

// MaxDepth is how deep messages may be nested.
const MaxDepth = 256

// Codec encodes a generated message: T is the pointer type, Codec[*pb.Reading]().
//
// Decode makes a message of its own per record, which keeps nothing of the payload. Unknown fields are kept and written again. It rejects
// what is malformed, text that is not UTF-8, required fields that are missing, and more than MaxDepth levels; errors name field and
// position. An empty payload is a message with nothing set, as the format has it. Append is deterministic within one version of this
// program and fails on a nil message.
//
// Messages are pointers, and branches of a topology share them: do not change one in a Map or Update above a branch; proto.Clone it.
func Codec[T proto.Message]() codec.Codec[T] {
	var zero T
	c := protoCodec[T]{
		enc: proto.MarshalOptions{Deterministic: true},
		dec: proto.UnmarshalOptions{RecursionLimit: MaxDepth},
	}
	if any(zero) == nil {
		c.err = errors.New("protobuf: the type is an interface: name a generated message, Codec[*pb.Reading]()")
		return c
	}
	c.id = "protobuf/" + string(zero.ProtoReflect().Descriptor().FullName())
	return c
}

type protoCodec[T proto.Message] struct {
	id  string
	enc proto.MarshalOptions
	dec proto.UnmarshalOptions
	err error
}

func (c protoCodec[T]) ID() string { return c.id }

func (c protoCodec[T]) Decode(data []byte, v *T) error {
	if c.err != nil {
		return c.err
	}
	m, ok := (*v).ProtoReflect().Type().New().Interface().(T)
	if !ok {
		return fmt.Errorf("protobuf: %T is not a generated message", *v)
	}
	if err := c.dec.Unmarshal(data, m); err != nil {
		return located(data, m.ProtoReflect().Descriptor(), err)
	}
	*v = m
	return nil
}

func (c protoCodec[T]) Append(b []byte, v *T) ([]byte, error) {
	if c.err != nil {
		return b, c.err
	}
	if !(*v).ProtoReflect().IsValid() {
		return b, fmt.Errorf("encode %s: the message is nil", c.id)
	}
	out, err := c.enc.MarshalAppend(b, *v)
	if err != nil {
		return b, fmt.Errorf("encode %s: %w", c.id, err)
	}
	return out, nil
}
