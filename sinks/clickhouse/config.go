package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"
)

// Protocol is how the sink talks to the server.
type Protocol string

const (
	// Native is ClickHouse's own protocol over TCP (port 9000, with TLS 9440).
	Native Protocol = "native"
	// HTTP is the HTTP interface (port 8123, with TLS 8443), for load balancers and proxies.
	HTTP Protocol = "http"
)

// Compression is how blocks are packed on the wire.
type Compression string

const (
	// LZ4 is fast: the default.
	LZ4 Compression = "lz4"
	// ZSTD halves the bytes of LZ4 at about three times its cost.
	ZSTD Compression = "zstd"
	// NoCompression sends blocks as they are.
	NoCompression Compression = "none"
)

// Secret is a string that prints redacted.
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders of text, JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Config says where the server is and how to talk to it.
type Config struct {
	// Addr are host:port pairs of servers that hold the same tables; the first that answers is used. Defaults to 127.0.0.1:9000
	// (HTTP: 127.0.0.1:8123).
	Addr []string `yaml:"addr"`
	// Protocol is native or http. Defaults to native.
	Protocol Protocol `yaml:"protocol"`
	// Database is where tables without a database in their name live. Defaults to default.
	Database string `yaml:"database"`
	// User is the account. Defaults to default.
	User string `yaml:"user"`
	// Password is the account's password. Defaults to none.
	Password Secret `yaml:"password"`
	// Compression of inserts: lz4, zstd or none. Defaults to lz4.
	Compression Compression `yaml:"compression"`
	// DialTimeout bounds connecting to one address, with the handshake. Defaults to 5s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// ReadTimeout bounds one insert or query. An insert that exceeds it has an unknown outcome and is retried. Defaults to 60s.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// MaxInFlight is how many inserts one sink sends at the same time. Defaults to 2.
	MaxInFlight int `yaml:"max_in_flight"`
	// Settings are server settings sent with each insert, for instance insert_quorum: auto. The sink's own (async_insert,
	// insert_deduplicate, insert_deduplication_token) cannot be set. Defaults to none.
	Settings map[string]string `yaml:"settings"`
	// TLS encrypts the connection. Defaults to off.
	TLS TLS `yaml:"tls"`
}

// TLS says how to encrypt.
type TLS struct {
	// Enabled turns TLS on. Defaults to false.
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file of the authorities to trust. Defaults to the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are a client certificate in PEM; over HTTP, without a password, it is the login. Both or neither; default
	// to none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name in the server's certificate. Defaults to the host of the address.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts every certificate: for tests only. Defaults to false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

func (c *Config) setDefaults() {
	if c.Protocol == "" {
		c.Protocol = Native
	}
	if len(c.Addr) == 0 {
		c.Addr = []string{"127.0.0.1:9000"}
		if c.Protocol == HTTP {
			c.Addr = []string{"127.0.0.1:8123"}
		}
	}
	if c.Database == "" {
		c.Database = "default"
	}
	if c.User == "" {
		c.User = "default"
	}
	if c.Compression == "" {
		c.Compression = LZ4
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = time.Minute
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 2
	}
}

// Validate lists everything that is wrong with the configuration, defaults applied.
func (c Config) Validate() error {
	c.setDefaults()
	var errs []error
	for _, a := range c.Addr {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("addr %q: %w: write host:port", a, err))
		}
	}
	if c.Protocol != Native && c.Protocol != HTTP {
		errs = append(errs, fmt.Errorf("protocol %q: use native or http", c.Protocol))
	}
	switch c.Compression {
	case LZ4, ZSTD, NoCompression:
	default:
		errs = append(errs, fmt.Errorf("compression %q: use lz4, zstd or none", c.Compression))
	}
	if c.DialTimeout < 0 || c.ReadTimeout < 0 {
		errs = append(errs, errors.New("dial_timeout and read_timeout must not be negative"))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, fmt.Errorf("max_in_flight %d: must not be negative", c.MaxInFlight))
	}
	for _, own := range ownSettings {
		if _, ok := c.Settings[own]; ok {
			errs = append(errs, fmt.Errorf("setting %q belongs to the sink: remove it", own))
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls: set cert_file and key_file both, or neither"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clickhouse config: %w", err)
	}
	return nil
}

// config makes the crypto/tls configuration, nil when TLS is off.
func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	out := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, MinVersion: tls.VersionTLS12} //nolint:gosec // the user's explicit choice
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls ca_file %q holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls cert_file and key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
