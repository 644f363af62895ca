package mqttconn

import "fmt"

// RefusedError is a connection that the broker refuses, by its code.
type RefusedError struct {
	Code byte
	// Name is the code's, Reason what the broker says itself, Reference another broker that it names. Each may be empty.
	Name, Reason, Reference string
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("refused with code 0x%02x", e.Code)
	for _, more := range []string{e.Name, e.Reason, e.Reference} {
		if more != "" {
			text += ": " + more
		}
	}
	return text
}

// DisconnectedError is a connection that the broker has ended, saying why.
type DisconnectedError struct {
	Code   byte
	Reason string
}

func (e *DisconnectedError) Error() string {
	return fmt.Sprintf("the broker ends the connection with code 0x%02x: %s", e.Code, e.Reason)
}

// SessionTakenOver is the code with which a broker ends a connection whose client id has connected again.
const SessionTakenOver = 0x8e
