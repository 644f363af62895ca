package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SASL says who we are to the brokers.
type SASL struct {
	// Mechanism is "plain", "scram-sha-256" or "scram-sha-512". Defaults to none: no authentication.
	Mechanism string `yaml:"mechanism"`
	// User and Password are the credentials. Defaults to none.
	User     string `yaml:"user"`
	Password Secret `yaml:"password"`
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		if s.User != "" || s.Password != "" {
			return nil, fmt.Errorf("kafka: sasl has a user or a password but no mechanism: want plain, scram-sha-256 or scram-sha-512")
		}
		return nil, nil
	}
	if s.User == "" || s.Password == "" {
		return nil, fmt.Errorf("kafka: sasl.mechanism is %q, but user or password is empty", s.Mechanism)
	}
	switch s.Mechanism {
	case "plain":
		return plain.Auth{User: s.User, Pass: string(s.Password)}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.User, Pass: string(s.Password)}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: s.User, Pass: string(s.Password)}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka: sasl.mechanism is %q: want plain, scram-sha-256 or scram-sha-512", s.Mechanism)
}
