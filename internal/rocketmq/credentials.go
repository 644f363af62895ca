package rocketmq

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"log/slog"
	"maps"
	"slices"
)

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

// Credentials sign requests for a broker with access control.
type Credentials struct {
	AccessKey     string
	SecretKey     Secret
	SecurityToken Secret
}

func (c Credentials) isZero() bool { return c.AccessKey == "" }

// sign returns the request's fields with access key and signature: the HMAC-SHA1 of the fields' values, in the order of
// their names, and the body.
func (c Credentials) sign(req Request) map[string]string {
	ext := make(map[string]string, len(req.Ext)+3)
	maps.Copy(ext, req.Ext)
	ext["AccessKey"] = c.AccessKey
	if c.SecurityToken != "" {
		ext["SecurityToken"] = string(c.SecurityToken)
	}
	mac := hmac.New(sha1.New, []byte(c.SecretKey))
	for _, k := range slices.Sorted(maps.Keys(ext)) {
		mac.Write([]byte(ext[k]))
	}
	for _, p := range req.Body {
		mac.Write(p)
	}
	ext["Signature"] = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return ext
}
