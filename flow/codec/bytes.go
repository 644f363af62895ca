package codec

// Bytes passes payloads on as they are. Decode copies.
func Bytes() Codec[[]byte] { return rawBytes{} }

type rawBytes struct{}

func (rawBytes) ID() string { return "bytes" }

func (rawBytes) Decode(data []byte, v *[]byte) error {
	*v = append(make([]byte, 0, len(data)), data...)
	return nil
}

func (rawBytes) Append(b []byte, v *[]byte) ([]byte, error) { return append(b, *v...), nil }

// String passes payloads on as strings, whatever their bytes: they need not be UTF-8.
func String() Codec[string] { return rawString{} }

type rawString struct{}

func (rawString) ID() string { return "string" }

func (rawString) Decode(data []byte, v *string) error {
	*v = string(data)
	return nil
}

func (rawString) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }
