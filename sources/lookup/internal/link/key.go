package link

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
)

// KeyText returns how a key is written where it stands in text: in the name of a Redis key, in a URL. Keys are strings, integers, or
// types that write themselves.
func KeyText[K comparable]() (func(K) (string, error), error) {
	if f, ok := any(func(k string) (string, error) { return k, nil }).(func(K) (string, error)); ok {
		return f, nil
	}
	t := reflect.TypeFor[K]()
	switch {
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return func(k K) (string, error) {
			text, err := any(k).(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return "", fmt.Errorf("key %v cannot be written: %w", k, err)
			}
			return string(text), nil
		}, nil
	case t.Kind() == reflect.String:
		return func(k K) (string, error) { return reflect.ValueOf(k).String(), nil }, nil
	case reflect.Zero(t).CanInt():
		return func(k K) (string, error) { return strconv.FormatInt(reflect.ValueOf(k).Int(), 10), nil }, nil
	case reflect.Zero(t).CanUint():
		return func(k K) (string, error) { return strconv.FormatUint(reflect.ValueOf(k).Uint(), 10), nil }, nil
	}
	return nil, fmt.Errorf("a key of type %v cannot be written as text: let the key function give a string or an integer", t)
}
