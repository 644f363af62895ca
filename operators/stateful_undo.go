package operators

import (
	"fmt"
	"reflect"

	"github.com/millrace-stream/millrace/flow/codec"
)

// undo brings a state back to what it was before a call that failed.
type undo[A any] struct {
	flat   bool
	clone  bool
	before A
	code   codec.Codec[A]
	buf    []byte
}

type cloner[A any] interface{ Clone() A }

func newUndo[A any]() undo[A] {
	u := undo[A]{flat: isFlat(reflect.TypeFor[A]())}
	_, u.clone = any(new(A)).(cloner[A])
	if !u.flat && !u.clone {
		u.code = codec.CBOR[A]()
	}
	return u
}

func (u *undo[A]) save(a *A) (err error) {
	switch {
	case u.flat:
		u.before = *a
	case u.clone:
		u.before = any(a).(cloner[A]).Clone()
	default:
		if u.buf, err = u.code.Append(u.buf[:0], a); err != nil {
			return fmt.Errorf("copy the state before the call: %w", err)
		}
	}
	return nil
}

func (u *undo[A]) restore(a *A) error {
	if u.flat || u.clone {
		*a = u.before
		return nil
	}
	*a = *new(A)
	if err := u.code.Decode(u.buf, a); err != nil {
		return fmt.Errorf("bring the state back to what it was before the call: %w", err)
	}
	return nil
}
