package rocketmq

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS says how connections are encrypted.
type TLS struct {
	// Enabled encrypts all connections. Defaults to false.
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file with the authorities that may sign the servers' certificates. Defaults to the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile is a PEM file with the client's own certificate, for servers that ask for one. Defaults to none.
	CertFile string `yaml:"cert_file"`
	// KeyFile is a PEM file with the key of CertFile. Defaults to none.
	KeyFile string `yaml:"key_file"`
	// ServerName is the name in the servers' certificates. Defaults to the host that is dialed.
	ServerName string `yaml:"server_name"`
	// SkipVerify accepts any certificate: for tests. Defaults to false.
	SkipVerify bool `yaml:"skip_verify"`
}

// Config reads the files; it is nil when TLS is not enabled.
func (t TLS) Config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("rocketmq: tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("rocketmq: tls.ca_file %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("rocketmq: tls.cert_file, tls.key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
