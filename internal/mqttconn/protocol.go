package mqttconn

import "fmt"

// Protocol is a version of MQTT.
type Protocol string

// Versions of MQTT.
const (
	// V311 is MQTT 3.1.1, which every broker speaks.
	V311 Protocol = "3.1.1"
	// V5 is MQTT 5: properties of messages, a window that the client sets, and reasons for what a broker refuses.
	V5 Protocol = "5"
)

// OrDefault is the version, MQTT 3.1.1 if none is set.
func (p Protocol) OrDefault() Protocol {
	if p == "" {
		return V311
	}
	return p
}

// Check tells what is wrong, in words that follow the field's name; nil if nothing is.
func (p Protocol) Check() error {
	switch p.OrDefault() {
	case V311, V5:
		return nil
	}
	return fmt.Errorf("is %q: allowed are 3.1.1 and 5", string(p))
}
