package operators

import (
	"reflect"
	"strings"
	"time"
	"unsafe"
)

// ownStrings cuts the strings of state loose from the payloads that a codec may let them point into: a short one would keep all of a
// broker's answer in memory. Those behind slices, maps and pointers are left to who puts them there.
type ownStrings[A any] struct{ at []uintptr }

func newOwnStrings[A any]() ownStrings[A] {
	var s ownStrings[A]
	s.find(reflect.TypeFor[A](), 0)
	return s
}

func (s *ownStrings[A]) find(t reflect.Type, at uintptr) {
	switch t.Kind() {
	case reflect.String:
		s.at = append(s.at, at)
	case reflect.Array:
		for i := range t.Len() {
			before := len(s.at)
			if s.find(t.Elem(), at+uintptr(i)*t.Elem().Size()); len(s.at) == before {
				return
			}
		}
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range t.NumField() {
			s.find(t.Field(i).Type, at+t.Field(i).Offset)
		}
	}
}

// cut gives v strings of its own. One that is equal to before's becomes that, so that what seldom changes costs no allocation.
func (s *ownStrings[A]) cut(v, before *A) {
	for _, at := range s.at {
		now, was := (*string)(unsafe.Add(unsafe.Pointer(v), at)), (*string)(unsafe.Add(unsafe.Pointer(before), at))
		switch {
		case unsafe.StringData(*now) == unsafe.StringData(*was): // it is its own already, or a part of that
		case *now == *was:
			*now = *was
		default:
			*now = strings.Clone(*now)
		}
	}
}
