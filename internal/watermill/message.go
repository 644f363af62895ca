// Package watermill holds what the source and the sink of Watermill messages share.
package watermill

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow/codec"
)

// UUIDHeader is the header that holds a message's UUID, the one that watermill-kafka uses.
const UUIDHeader = "_watermill_message_uuid"

// Headers are a message's metadata and UUID as headers.
func Headers(m *message.Message) map[string]string {
	h := make(map[string]string, len(m.Metadata)+1)
	maps.Copy(h, m.Metadata)
	h[UUIDHeader] = m.UUID
	return h
}

// SetHeaders is the inverse of Headers, for headers that may lack a UUID.
func SetHeaders(m *message.Message, h map[string]string) {
	for k, v := range h {
		if k == UUIDHeader {
			m.UUID = v
			continue
		}
		m.Metadata.Set(k, v)
	}
}

// Plain is the codec of a message's payload.
type Plain struct{}

// ID names the encoding.
func (Plain) ID() string { return "watermill-plain" }

// Append appends the payload.
func (Plain) Append(b []byte, v **message.Message) ([]byte, error) {
	if *v == nil {
		return nil, errNil
	}
	return append(b, (*v).Payload...), nil
}

// Decode makes a message with a copy of the payload and a random UUID.
func (Plain) Decode(data []byte, v **message.Message) error {
	*v = message.NewMessage(wm.NewUUID(), append(message.Payload(nil), data...))
	return nil
}

// Envelope is the codec of a whole message.
type Envelope struct{}

type envelope struct {
	UUID     string            `json:"uuid"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Payload  []byte            `json:"payload"`
}

var (
	_ codec.Codec[*message.Message] = Plain{}
	_ codec.Codec[*message.Message] = Envelope{}

	errNil = errors.New("watermill: no message to encode")
)

// ID names the encoding.
func (Envelope) ID() string { return "watermill-envelope" }

// Append appends UUID, metadata and payload as JSON.
func (Envelope) Append(b []byte, v **message.Message) ([]byte, error) {
	m := *v
	if m == nil {
		return nil, errNil
	}
	j, err := json.Marshal(envelope{m.UUID, m.Metadata, m.Payload})
	return append(b, j...), err
}

// Decode reads what Append wrote.
func (Envelope) Decode(data []byte, v **message.Message) error {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("watermill: not an envelope of a message: %w", err)
	}
	m := message.NewMessage(e.UUID, e.Payload)
	maps.Copy(m.Metadata, e.Metadata)
	*v = m
	return nil
}
