package iot

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Kind tells readings from heartbeats.
type Kind string

// Kinds of messages. A message without a kind is a reading.
const (
	KindReading   Kind = "reading"
	KindHeartbeat Kind = "heartbeat"
)

// Reading is what a device sends, 110 to 250 bytes of JSON.
type Reading struct {
	DeviceID string `json:"deviceId"`
	Site     string `json:"site"`
	Kind     Kind   `json:"kind"`
	// TS is the event time by the device's clock, in ms since the Unix epoch.
	TS int64 `json:"ts"`
	// Seq numbers the messages of a device. (DeviceID, Seq) is the reading's identity: a message sent twice has the same.
	Seq int64 `json:"seq"`
	// Temperature is in degrees Celsius, Humidity in percent.
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
}

// EventID identifies the event in 16 bytes: the hash of the device id and the sequence number.
type EventID [16]byte

// At is the reading's event time.
func (r Reading) At() time.Time { return time.UnixMilli(r.TS) }

// Device is the device's id, as a key.
func (r Reading) Device() string { return r.DeviceID }

// EventID identifies the event that the reading reports.
func (r Reading) EventID() EventID { return eventID(r.DeviceID, r.Seq) }

func eventID(device string, seq int64) (id EventID) {
	binary.LittleEndian.PutUint64(id[:8], xxhash.Sum64String(device))
	binary.LittleEndian.PutUint64(id[8:], uint64(seq))
	return id
}

// Limits of what the sensors can measure. A reading outside of them is invalid: the sensor is broken, not the room hot.
const (
	MinTemperature = -60.0
	MaxTemperature = 85.0
	MinHumidity    = 0.0
	MaxHumidity    = 100.0
)

// Valid tells whether the values are ones that the sensors can measure.
func (r Reading) Valid() bool {
	return r.Temperature >= MinTemperature && r.Temperature <= MaxTemperature && r.Humidity >= MinHumidity && r.Humidity <= MaxHumidity
}

// Heartbeat tells whether the message only says that the device is alive.
func (r Reading) Heartbeat() bool { return r.Kind == KindHeartbeat }

// Placed is a reading with what is known about the device's site. Rules name its fields as the tags do.
type Placed struct {
	DeviceID    string  `json:"deviceId"`
	Site        string  `json:"site"`
	Region      string  `json:"region"`
	TS          int64   `json:"ts"`
	Seq         int64   `json:"seq"`
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
}

// At is the reading's event time.
func (p Placed) At() time.Time { return time.UnixMilli(p.TS) }

// Device is the device's id, as a key.
func (p Placed) Device() string { return p.DeviceID }

// EventID identifies the event that the reading reports.
func (p Placed) EventID() EventID { return eventID(p.DeviceID, p.Seq) }

// Minute is what a window makes of one device's readings of one minute of event time.
type Minute struct {
	// Count is how many readings there were; the others are of their temperatures.
	Count    int64
	Avg      float64
	Min, Max float64
	// Site and Region are those of the latest reading.
	Site, Region string
}
