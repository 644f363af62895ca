package protobuf

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/millrace-stream/millrace/flow/codec/protobuf/millracepb"
)

// Time returns the function that reads the event time of a message: the field marked with the option millrace.event_time, of the
// message itself or of messages in it (not of repeated ones). It is found once, here; a type without such a field, with several on one
// level, or with one that cannot be a time is an error.
//
// An unset field gives the zero time, which flow.AssignTime sends to BadClock. The function is safe for concurrent use.
func Time[T proto.Message]() (func(T) time.Time, error) {
	md, err := descriptor[T]()
	if err != nil {
		return nil, err
	}
	paths, err := find(md, func(fd protoreflect.FieldDescriptor) bool {
		return unitOf(fd) != millracepb.TimeUnit_TIME_UNIT_UNSPECIFIED
	})
	if err != nil {
		return nil, err
	}
	switch {
	case len(paths) == 0:
		return nil, fmt.Errorf("message %s has no field with the option (millrace.event_time): mark one", md.FullName())
	case len(paths) > 1:
		return nil, fmt.Errorf("message %s has %d fields with the option (millrace.event_time): mark one", md.FullName(), len(paths))
	}
	path := paths[0]
	fd := path[len(path)-1]
	unit := unitOf(fd)
	if err := checkTime(fd, unit); err != nil {
		return nil, err
	}
	return func(m T) time.Time {
		v, ok := path.get(m.ProtoReflect())
		if !ok {
			return time.Time{}
		}
		return timeOf(v, fd, unit)
	}, nil
}

// ID returns the function that reads the id of a message: the fields marked with the option millrace.event_id, of the message itself or,
// where it has none, of messages in it. It is found once, here; a type without such a field, or with one that is repeated or a message, is
// an error.
//
// One field gives its value: text as it is, numbers in decimal, bytes in base64 for URLs. Several give all of them in the order of
// their numbers, each behind its length, so that different ids never look the same. The function is safe for concurrent use.
func ID[T proto.Message]() (func(T) string, error) {
	md, err := descriptor[T]()
	if err != nil {
		return nil, err
	}
	paths, err := find(md, isID)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("message %s has no field with the option (millrace.event_id): mark at least one", md.FullName())
	}
	for _, p := range paths {
		if fd := p[len(p)-1]; fd.IsList() || fd.IsMap() || fd.Message() != nil {
			return nil, fmt.Errorf("field %s cannot be an event id: it must be a single number, text or bytes", fd.FullName())
		}
	}
	if len(paths) == 1 {
		path := paths[0]
		return func(m T) string {
			v, _ := path.get(m.ProtoReflect())
			return text(v)
		}, nil
	}
	return func(m T) string {
		b := make([]byte, 0, 64)
		for _, p := range paths {
			v, _ := p.get(m.ProtoReflect())
			s := text(v)
			b = strconv.AppendInt(b, int64(len(s)), 10)
			b = append(append(b, ':'), s...)
		}
		return string(b)
	}, nil
}

func descriptor[T proto.Message]() (protoreflect.MessageDescriptor, error) {
	var zero T
	if any(zero) == nil {
		return nil, fmt.Errorf("protobuf: the type is an interface: name a generated message")
	}
	return zero.ProtoReflect().Descriptor(), nil
}

func isID(fd protoreflect.FieldDescriptor) bool {
	is, _ := proto.GetExtension(fd.Options(), millracepb.E_EventId).(bool)
	return is
}

func unitOf(fd protoreflect.FieldDescriptor) millracepb.TimeUnit {
	u, _ := proto.GetExtension(fd.Options(), millracepb.E_EventTime).(millracepb.TimeUnit)
	return u
}

// path leads from a message to a field, through messages in it.
type path []protoreflect.FieldDescriptor

// get returns the field's value, and false when it, or a message on the way, is not set.
func (p path) get(m protoreflect.Message) (protoreflect.Value, bool) {
	for _, fd := range p[:len(p)-1] {
		if !m.Has(fd) {
			return p[len(p)-1].Default(), false
		}
		m = m.Get(fd).Message()
	}
	fd := p[len(p)-1]
	return m.Get(fd), m.Has(fd)
}

// find returns the marked fields of the highest level that has any, in order of their numbers on each message.
func find(md protoreflect.MessageDescriptor, marked func(protoreflect.FieldDescriptor) bool) ([]path, error) {
	type place struct {
		md   protoreflect.MessageDescriptor
		path path
	}
	seen := map[protoreflect.FullName]bool{md.FullName(): true}
	for level := []place{{md, nil}}; len(level) > 0; {
		var found []path
		var next []place
		for _, pl := range level {
			for i := range pl.md.Fields().Len() {
				fd := pl.md.Fields().Get(i)
				at := append(append(make(path, 0, len(pl.path)+1), pl.path...), fd)
				if marked(fd) {
					if fd.IsList() || fd.IsMap() {
						return nil, fmt.Errorf("field %s is repeated: it cannot be an event time or id", fd.FullName())
					}
					found = append(found, at)
				}
				if sub := fd.Message(); sub != nil && !fd.IsList() && !fd.IsMap() && !seen[sub.FullName()] {
					seen[sub.FullName()] = true
					next = append(next, place{sub, at})
				}
			}
		}
		if len(found) > 0 {
			return found, nil
		}
		level = next
	}
	return nil, nil
}

const timestampName = "google.protobuf.Timestamp"

func checkTime(fd protoreflect.FieldDescriptor, unit millracepb.TimeUnit) error {
	if unit == millracepb.TimeUnit_TIMESTAMP {
		if md := fd.Message(); md == nil || md.FullName() != timestampName {
			return fmt.Errorf("field %s is marked as TIMESTAMP and is none: take SECONDS, MILLIS, MICROS or NANOS for whole numbers", fd.FullName())
		}
		return nil
	}
	switch fd.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Int64Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed64Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return nil
	}
	return fmt.Errorf("field %s is marked as %s and is a %s: it must be a whole number", fd.FullName(), unit, fd.Kind())
}

func timeOf(v protoreflect.Value, fd protoreflect.FieldDescriptor, unit millracepb.TimeUnit) time.Time {
	if unit == millracepb.TimeUnit_TIMESTAMP {
		m := v.Message()
		fs := m.Descriptor().Fields()
		return time.Unix(m.Get(fs.ByNumber(1)).Int(), m.Get(fs.ByNumber(2)).Int()).UTC()
	}
	var n int64
	switch fd.Kind() {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n = int64(v.Uint())
	default:
		n = v.Int()
	}
	switch unit {
	case millracepb.TimeUnit_SECONDS:
		return time.Unix(n, 0).UTC()
	case millracepb.TimeUnit_MILLIS:
		return time.UnixMilli(n).UTC()
	case millracepb.TimeUnit_MICROS:
		return time.UnixMicro(n).UTC()
	}
	return time.Unix(0, n).UTC()
}

func text(v protoreflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return x
	case []byte:
		return base64.RawURLEncoding.EncodeToString(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case uint64:
		return strconv.FormatUint(x, 10)
	case int32:
		return strconv.FormatInt(int64(x), 10)
	case uint32:
		return strconv.FormatUint(uint64(x), 10)
	}
	return v.String()
}
