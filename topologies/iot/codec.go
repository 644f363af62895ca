package iot

import (
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow/codec"
)

// ReadingCodec reads and writes readings as JSON. It refuses what is JSON but no reading: without a device, of a kind that does not
// exist. Refused messages go to the dead letters with their bytes.
func ReadingCodec() codec.Codec[Reading] { return readingCodec{codec.JSON[Reading]()} }

type readingCodec struct{ codec.Codec[Reading] }

// maxDeviceID bounds the ids of devices, in bytes.
const maxDeviceID = 64

var errNoDevice = errors.New("a reading without deviceId")

// Decode reads one reading.
func (c readingCodec) Decode(data []byte, r *Reading) error {
	if err := c.Codec.Decode(data, r); err != nil {
		return err
	}
	switch {
	case r.DeviceID == "":
		return errNoDevice
	case len(r.DeviceID) > maxDeviceID:
		return fmt.Errorf("deviceId of %d bytes: at most %d", len(r.DeviceID), maxDeviceID)
	case r.Kind == "":
		r.Kind = KindReading
	case r.Kind != KindReading && r.Kind != KindHeartbeat:
		return fmt.Errorf("unknown kind %q: reading or heartbeat", r.Kind)
	}
	return nil
}
