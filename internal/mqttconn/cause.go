package mqttconn

import "strings"

// Cause is what a warning is told apart by, so that another cause is logged at once and the same one not again and again: the message and
// the error without its figures, which are ports of connections.
func Cause(msg string, err error) string {
	if err == nil {
		return msg
	}
	return msg + ": " + strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
}
