package mqtt

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkTopic tells what is wrong with the name of a topic, in words that follow its name; nil if nothing is. What the protocol
// leaves to the broker, control characters, is refused too: brokers end the connection over them.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return fmt.Errorf("is empty: use a name such as devices/17/alarm")
	case strings.ContainsAny(topic, "+#"):
		return fmt.Errorf("%q holds + or #, which are for subscriptions: use a name such as devices/17/alarm", topic)
	case strings.HasPrefix(topic, "$SYS/"), strings.HasPrefix(topic, "$share/"), strings.HasPrefix(topic, "$queue/"):
		return fmt.Errorf("%q is the broker's own: choose another", topic)
	}
	return checkText(topic)
}

// checkText tells why a broker would not take a string.
func checkText(s string) error {
	if len(s) > 65535 {
		return fmt.Errorf("%q… has %d bytes: at most 65,535 are allowed", s[:32], len(s))
	}
	for i, r := range s {
		switch {
		case r < 0x80 && !unicode.IsControl(r):
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			return fmt.Errorf("%.64q is no UTF-8", s)
		case unicode.IsControl(r), r&0xfffe == 0xfffe, r >= 0xfdd0 && r <= 0xfdef:
			return fmt.Errorf("%.64q holds the character %U, over which brokers end the connection", s, r)
		}
	}
	return nil
}
