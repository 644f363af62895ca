package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// JSON encodes values as JSON with encoding/json's rules and tags. On amd64 and arm64 it is bytedance/sonic that does the work,
// three to five times faster; on others, and where sonic does not know the Go version, encoding/json.
//
// Decode rejects data behind the value (ErrTrailing) and empty input. Unknown fields are passed over, names match without
// regard to case, null leaves the value zero, invalid UTF-8 in strings becomes U+FFFD. Append does not escape HTML, sorts
// maps, and fails on NaN and infinities.
//
// sonic and encoding/json take and reject the same inputs and make the same values of them, as far as fuzzing can tell, but for
// three things: sonic is lenient about the padding of base64 in []byte fields, and about escapes that do not exist in long strings (32 bytes
// and more) of unknown fields, which it passes over; and it makes U+FFFD of invalid UTF-8 in a json.RawMessage, too.
func JSON[T any]() Codec[T] { return newJSON[T]() }

// trailing tells whether data is a valid value with something behind it. It is asked only after a decoding has failed.
func trailing(data []byte) bool {
	d := json.NewDecoder(bytes.NewReader(data))
	var first json.RawMessage
	if d.Decode(&first) != nil {
		return false
	}
	_, err := d.Token()
	return !errors.Is(err, io.EOF)
}

// jsonError makes an error that holds nothing of data, whose buffer is used again.
func jsonError(data []byte, err error) error {
	if trailing(data) {
		return fmt.Errorf("decode JSON: %w: one value per payload is expected", ErrTrailing)
	}
	return fmt.Errorf("decode JSON: %w", err)
}

func blank(data []byte) bool {
	for _, c := range data {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}
