package operators

import (
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/agg"
)

// stored turns single values into bytes and back: flat types by columns, others by a codec.
type stored[T any] struct {
	code codec.Codec[T]
	flat agg.Store[struct{}, *T]
	slot []agg.Slot
}

// storedAs makes the encoding of T: the codec given by an option, if it is not nil. What is wrong with it becomes a problem of cfg.
func storedAs[T any](given any, cfg *flow.NodeConfig, option string) func() stored[T] {
	if given == nil && isFlat(reflect.TypeFor[T]()) {
		return func() stored[T] {
			s := stored[T]{flat: agg.Func(func(*T, struct{}) {}, func(_, _ *T) {}, func(v *T) *T { return v }).NewStore()}
			s.slot = []agg.Slot{s.flat.AllocBlock()}
			return s
		}
	}
	c, ok := given.(codec.Codec[T])
	switch {
	case given == nil:
		c = codec.CBOR[T]()
		if _, err := c.Append(nil, new(T)); err != nil {
			cfg.Problem(fmt.Sprintf("its records cannot be stored: %v", err), "give a codec, by "+option)
		}
	case !ok:
		cfg.Problem(fmt.Sprintf("the codec for stored records is %T, not one of %T", given, *new(T)), "give "+option+" the codec of the input's type")
	}
	return func() stored[T] { return stored[T]{code: c} }
}

func (s *stored[T]) id() string {
	if s.flat != nil {
		return s.flat.Fingerprint()
	}
	return s.code.ID()
}

func (s *stored[T]) append(b []byte, v *T) ([]byte, error) {
	if s.flat != nil {
		*s.flat.Result(s.slot[0]) = *v
		return s.flat.Append(b, s.slot), nil
	}
	n := len(b)
	b, err := s.code.Append(append(b, 0, 0, 0, 0), v)
	if err != nil {
		return b[:n], fmt.Errorf("the record cannot be stored: %w", err)
	}
	binary.LittleEndian.PutUint32(b[n:], uint32(len(b)-n-4))
	return b, nil
}

func (s *stored[T]) read(b []byte, v *T) (rest []byte, err error) {
	if s.flat != nil {
		if rest, err = s.flat.Read(b, s.slot); err == nil {
			*v = *s.flat.Result(s.slot[0])
		}
		return rest, err
	}
	if len(b) < 4 || uint64(len(b)-4) < uint64(binary.LittleEndian.Uint32(b)) {
		return nil, errTimeline
	}
	n := 4 + int(binary.LittleEndian.Uint32(b))
	return b[n:], s.code.Decode(b[4:n], v)
}
