package kafka

import "log/slog"

// Secret is a string that prints as "[redacted]".
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret in encoded configurations.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
