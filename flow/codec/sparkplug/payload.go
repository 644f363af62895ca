package sparkplug

import (
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millrace-stream/millrace/flow/codec"
)

// MaxMetrics is how many metrics a payload, a template or the rows of a data set may have.
const MaxMetrics = 100_000

// Payload is a message's payload, as sent. Times are milliseconds since 1970.
type Payload struct {
	Timestamp int64
	// Seq is the sequence number, 0 to 255, of messages that have one.
	Seq     uint64
	HasSeq  bool
	Metrics []Metric
	UUID    string `cbor:",omitempty"`
	Body    []byte `cbor:",omitempty"`
}

// Metric is one metric of a payload, as sent: in data messages it often has an alias in place of the name, and no type. Messages and
// Metrics resolve them; Value reads the value.
type Metric struct {
	Name     string `cbor:",omitempty"`
	Alias    uint64 `cbor:",omitempty"`
	HasAlias bool   `cbor:",omitempty"`
	// Timestamp is 0 where the metric has none of its own.
	Timestamp  int64    `cbor:",omitempty"`
	Type       DataType `cbor:",omitempty"`
	Historical bool     `cbor:",omitempty"`
	Transient  bool     `cbor:",omitempty"`
	Null       bool     `cbor:",omitempty"`
	// Wire says in which way the value came: bits of a number, a text, or bytes.
	Wire  Wire   `cbor:",omitempty"`
	Bits  uint64 `cbor:",omitempty"`
	Text  string `cbor:",omitempty"`
	Bytes []byte `cbor:",omitempty"`
	// MetaData and Properties are encoded, as they came.
	MetaData   []byte `cbor:",omitempty"`
	Properties []byte `cbor:",omitempty"`
}

// NewMetric makes a metric to send.
func NewMetric(name string, v Value) (Metric, error) {
	m := Metric{Name: name}
	return m, m.set(v)
}

// Codec reads and writes payloads. Decode keeps nothing of the payload's memory and rejects what is malformed, text that is not UTF-8,
// sequence numbers above 255, unknown data types and more than MaxMetrics metrics, naming field and position; unknown fields are passed
// over. Templates, data sets, properties and metadata stay encoded.
func Codec() codec.Codec[Payload] { return payloadCodec{} }

type payloadCodec struct{}

func (payloadCodec) ID() string { return "sparkplug-b" }

func (payloadCodec) Decode(data []byte, v *Payload) error {
	if err := v.read(data); err != nil {
		var e *wireError
		if errors.As(err, &e) {
			e.at = len(data) - e.left
		}
		return err
	}
	return nil
}

// wireError says what is malformed, where. left is how many bytes of the payload were not read, which does not depend on nesting.
type wireError struct {
	field string
	left  int
	at    int
	what  string
}

func (e *wireError) Error() string {
	return fmt.Sprintf("decode Sparkplug payload: field %q at byte %d: %s", e.field, e.at, e.what)
}

// walk calls f for each field of an encoded message; value is what is in a field of bytes, bits any other. after is what follows b in the
// payload.
func walk(b []byte, name string, after int, f func(num protowire.Number, typ protowire.Type, value []byte, bits uint64, left int) error) error {
	for len(b) > 0 {
		left := len(b) + after
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return &wireError{field: name, left: left, what: "no field tag: " + reason(n)}
		}
		b = b[n:]
		left = len(b) + after
		var value []byte
		var bits uint64
		switch typ {
		case protowire.VarintType:
			bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(b)
			bits = uint64(x)
		case protowire.Fixed64Type:
			bits, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
			left -= n - len(value)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return &wireError{field: fmt.Sprintf("%s.%d", name, num), left: len(b) + after, what: reason(n)}
		}
		b = b[n:]
		if err := f(num, typ, value, bits, left); err != nil {
			return err
		}
	}
	return nil
}

func reason(n int) string {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return "the payload ends within it: it is cut"
	}
	return "it is malformed"
}

// text reads a field of text.
func text(field string, typ protowire.Type, value []byte, left int) (string, error) {
	if err := want(field, typ, protowire.BytesType, left); err != nil {
		return "", err
	}
	if !utf8.Valid(value) {
		return "", &wireError{field: field, left: left, what: "the text is not UTF-8"}
	}
	return string(value), nil
}

func want(field string, got, typ protowire.Type, left int) error {
	if got != typ {
		return &wireError{field: field, left: left, what: fmt.Sprintf("wire type %d, want %d: this is no Sparkplug B payload", got, typ)}
	}
	return nil
}

func millis(field string, typ protowire.Type, bits uint64, left int) (int64, error) {
	if err := want(field, typ, protowire.VarintType, left); err != nil {
		return 0, err
	}
	if bits > math.MaxInt64 {
		return 0, &wireError{field: field, left: left, what: "a time of milliseconds that does not fit int64"}
	}
	return int64(bits), nil
}

func (p *Payload) read(data []byte) error {
	return walk(data, "payload", 0, func(num protowire.Number, typ protowire.Type, value []byte, bits uint64, left int) (err error) {
		switch num {
		case 1:
			p.Timestamp, err = millis("timestamp", typ, bits, left)
		case 2:
			if err = want("metrics", typ, protowire.BytesType, left); err != nil {
				return err
			}
			if len(p.Metrics) == MaxMetrics {
				return &wireError{field: "metrics", left: left, what: fmt.Sprintf("more than %d metrics", MaxMetrics)}
			}
			p.Metrics = append(p.Metrics, Metric{})
			err = p.Metrics[len(p.Metrics)-1].read(value, left-len(value))
		case 3:
			if err = want("seq", typ, protowire.VarintType, left); err == nil && bits > 255 {
				err = &wireError{field: "seq", left: left, what: fmt.Sprintf("the sequence number %d is not within 0 to 255", bits)}
			}
			p.Seq, p.HasSeq = bits, true
		case 4:
			p.UUID, err = text("uuid", typ, value, left)
		case 5:
			err = want("body", typ, protowire.BytesType, left)
			p.Body = append([]byte{}, value...)
		}
		return err
	})
}

func (m *Metric) read(data []byte, after int) error {
	return walk(data, "metrics", after, func(num protowire.Number, typ protowire.Type, value []byte, bits uint64, left int) (err error) {
		switch num {
		case 1:
			m.Name, err = text("metrics.name", typ, value, left)
		case 2:
			m.Alias, m.HasAlias, err = bits, true, want("metrics.alias", typ, protowire.VarintType, left)
		case 3:
			m.Timestamp, err = millis("metrics.timestamp", typ, bits, left)
		case 4:
			if err = want("metrics.datatype", typ, protowire.VarintType, left); err == nil && bits > uint64(lastType) {
				err = &wireError{field: "metrics.datatype", left: left, what: fmt.Sprintf("the data type %d is not known", bits)}
			}
			m.Type = DataType(bits)
		case 5:
			m.Historical, err = bits != 0, want("metrics.is_historical", typ, protowire.VarintType, left)
		case 6:
			m.Transient, err = bits != 0, want("metrics.is_transient", typ, protowire.VarintType, left)
		case 7:
			m.Null, err = bits != 0, want("metrics.is_null", typ, protowire.VarintType, left)
		case 8:
			m.MetaData, err = append([]byte{}, value...), want("metrics.metadata", typ, protowire.BytesType, left)
		case 9:
			m.Properties, err = append([]byte{}, value...), want("metrics.properties", typ, protowire.BytesType, left)
		case 10, 11, 12, 13, 14, 15, 16, 17, 18:
			err = m.readValue(Wire(num), typ, value, bits, left)
		}
		return err
	})
}

func (m *Metric) readValue(w Wire, typ protowire.Type, value []byte, bits uint64, left int) (err error) {
	const field = "metrics.value"
	m.Wire, m.Bits, m.Text, m.Bytes = w, bits, "", nil
	switch w {
	case WireInt:
		m.Bits = uint64(uint32(bits))
		err = want(field, typ, protowire.VarintType, left)
	case WireLong:
		err = want(field, typ, protowire.VarintType, left)
	case WireBool:
		if bits != 0 {
			m.Bits = 1
		}
		err = want(field, typ, protowire.VarintType, left)
	case WireFloat:
		err = want(field, typ, protowire.Fixed32Type, left)
	case WireDouble:
		err = want(field, typ, protowire.Fixed64Type, left)
	case WireString:
		m.Text, err = text(field, typ, value, left)
	default:
		m.Bytes, err = append([]byte{}, value...), want(field, typ, protowire.BytesType, left)
	}
	return err
}

func (payloadCodec) Append(b []byte, v *Payload) ([]byte, error) {
	out := b
	if v.Timestamp != 0 {
		out = appendVarint(out, 1, uint64(v.Timestamp))
	}
	var scratch []byte
	for i := range v.Metrics {
		scratch = v.Metrics[i].append(scratch[:0])
		out = protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), scratch)
	}
	if v.HasSeq {
		if v.Seq > 255 {
			return b, fmt.Errorf("encode Sparkplug payload: the sequence number %d is not within 0 to 255", v.Seq)
		}
		out = appendVarint(out, 3, v.Seq)
	}
	if v.UUID != "" {
		out = protowire.AppendString(protowire.AppendTag(out, 4, protowire.BytesType), v.UUID)
	}
	if v.Body != nil {
		out = protowire.AppendBytes(protowire.AppendTag(out, 5, protowire.BytesType), v.Body)
	}
	return out, nil
}

func appendVarint(b []byte, num protowire.Number, x uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), x)
}

func (m *Metric) append(b []byte) []byte {
	if m.Name != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), m.Name)
	}
	if m.HasAlias {
		b = appendVarint(b, 2, m.Alias)
	}
	if m.Timestamp != 0 {
		b = appendVarint(b, 3, uint64(m.Timestamp))
	}
	if m.Type != Unknown {
		b = appendVarint(b, 4, uint64(m.Type))
	}
	for _, f := range [...]struct {
		num protowire.Number
		is  bool
	}{{5, m.Historical}, {6, m.Transient}, {7, m.Null}} {
		if f.is {
			b = appendVarint(b, f.num, 1)
		}
	}
	if m.MetaData != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 8, protowire.BytesType), m.MetaData)
	}
	if m.Properties != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, 9, protowire.BytesType), m.Properties)
	}
	switch num := protowire.Number(m.Wire); m.Wire {
	case WireNone:
	case WireInt, WireLong, WireBool:
		b = appendVarint(b, num, m.Bits)
	case WireFloat:
		b = protowire.AppendFixed32(protowire.AppendTag(b, num, protowire.Fixed32Type), uint32(m.Bits))
	case WireDouble:
		b = protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), m.Bits)
	case WireString:
		b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), m.Text)
	default:
		b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), m.Bytes)
	}
	return b
}
