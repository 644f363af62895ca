// Package link holds what the lookups of outside systems share: secrets, TLS files, and how their errors are told.
package link

import "log/slog"

const redacted = "[redacted]"

// Secret is a password or token. It prints, logs and encodes as "[redacted]", and decodes as a plain string.
type Secret string

// String is "[redacted]", or empty when there is nothing to hide.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the secret out of JSON and of every format that asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML keeps the secret out of YAML.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// Reveal is the secret itself, for the system that asks for it.
func (s Secret) Reveal() string { return string(s) }
