package mqttconn

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Attempt is who tried to connect, for the words of an error.
type Attempt struct {
	Brokers  string
	ClientID string
	Username string
	Protocol Protocol
}

// Explain puts a failed connection in words that say where and what to do. Permanent means that trying again with the same
// configuration is pointless: refused credentials or client id, a certificate that does not verify.
func (a Attempt) Explain(err error) (permanent bool, explained error) {
	var (
		files   *TLSError
		verify  *tls.CertificateVerificationError
		refused *RefusedError
		ended   *DisconnectedError
		alert   tls.AlertError
		header  tls.RecordHeaderError
	)
	code := byte(0)
	if errors.As(err, &refused) {
		code = refused.Code
	}
	switch {
	case errors.As(err, &files):
		return true, fmt.Errorf("broker %s: %w", a.Brokers, err)
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised),
		code == badUsernameOrPassword, code == notAuthorized, code == banned, code == badAuthentication:
		who := "a client without username"
		if a.Username != "" {
			who = fmt.Sprintf("user %q", a.Username)
		}
		return true, a.errorf(err, "refuses %s", who, "check username and password, and what the broker lets this client id do")
	case errors.Is(err, packets.ErrorRefusedIDRejected), code == invalidClientID:
		return true, a.errorf(err, "refuses the client id %q", a.ClientID, "choose another client_id; some brokers take at most 23 letters and digits")
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion), code == badProtocolVersion:
		return true, a.errorf(err, "refuses %s", "MQTT "+string(a.Protocol.OrDefault()), "enable this version of the protocol on the broker, or choose the other one with protocol")
	case code == useAnotherServer, code == serverMoved:
		return true, a.errorf(err, "%s", "sends the client elsewhere", "set brokers to the one that it names, or to a node that takes clients")
	case errors.As(err, &ended):
		return false, a.errorf(err, "lets the client id %q go at once", a.ClientID, "give every instance its own client_id, and see the broker's log")
	case code != 0:
		return false, a.errorf(err, "%s", "does not let the client in now", "see the broker's log for why")
	case errors.As(err, &verify):
		return true, a.errorf(err, "%s", "shows a certificate that cannot be trusted", "set tls.ca_file to the broker's authority, or tls.server_name to the name in the certificate")
	case errors.As(err, &header):
		return true, a.errorf(err, "%s", "does not speak TLS on this port", "use the broker's TLS port (often 8883), or the scheme tcp")
	case errors.As(err, &alert):
		return true, a.errorf(err, "%s", "breaks off the TLS handshake", "set tls.cert_file and tls.key_file to a certificate that the broker accepts")
	}
	return false, a.errorf(err, "%s", "cannot be reached", "check that it runs, the address and the port, and firewalls between")
}

// Codes of MQTT 5 with which a broker refuses a connection for a reason that stays.
const (
	badProtocolVersion    = 0x84
	invalidClientID       = 0x85
	badUsernameOrPassword = 0x86
	notAuthorized         = 0x87
	banned                = 0x8a
	badAuthentication     = 0x8c
	useAnotherServer      = 0x9c
	serverMoved           = 0x9d
)

func (a Attempt) errorf(err error, what, arg, cure string) error {
	return fmt.Errorf("broker %s "+what+": %w: %s", a.Brokers, arg, err, cure)
}
