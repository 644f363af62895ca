package agg

import (
	"reflect"
	"strings"
	"unsafe"
)

// keeper stores values that may alias the buffer of a payload: their strings and byte slices are copied.
type keeper[V any] struct {
	// strings and bytes are the offsets within V, of structs and arrays too.
	strings, bytes []uintptr
}

func keeperOf[V any]() keeper[V] {
	k := keeper[V]{}
	k.find(reflect.TypeFor[V](), 0)
	return k
}

func (k *keeper[V]) find(t reflect.Type, off uintptr) {
	switch t.Kind() {
	case reflect.String:
		k.strings = append(k.strings, off)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			k.bytes = append(k.bytes, off)
		}
	case reflect.Struct:
		for i := range t.NumField() {
			k.find(t.Field(i).Type, off+t.Field(i).Offset)
		}
	case reflect.Array:
		if hasPointers(t) {
			for i := range t.Len() {
				k.find(t.Elem(), off+uintptr(i)*t.Elem().Size())
			}
		}
	}
}

// set makes *into a copy of v. A string that is there already is kept, so that values that seldom change cost no allocation.
func (k *keeper[V]) set(into *V, v V) {
	if len(k.strings)+len(k.bytes) == 0 {
		*into = v
		return
	}
	k.setCopied(into, v)
}

func (k *keeper[V]) setCopied(into *V, v V) {
	for _, off := range k.strings {
		old, s := (*string)(unsafe.Add(unsafe.Pointer(into), off)), (*string)(unsafe.Add(unsafe.Pointer(&v), off))
		if *s == *old {
			*s = *old
		} else {
			*s = strings.Clone(*s)
		}
	}
	for _, off := range k.bytes {
		p := (*[]byte)(unsafe.Add(unsafe.Pointer(&v), off))
		if *p != nil {
			*p = append(make([]byte, 0, len(*p)), *p...)
		}
	}
	*into = v
}
