package mqttconn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS says how to trust the broker and how to be trusted by it. The files are read again for each connection, so that renewed
// certificates are taken without a restart. It needs a broker address whose scheme is ssl, tls, mqtts or wss.
type TLS struct {
	// CAFile holds the certificates (PEM) that the broker's must be signed by. Defaults to the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are this client's certificate and key (PEM), both or none. Defaults to none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name that the broker's certificate must carry. Defaults to the host of the address.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts any certificate, so that anybody in between can read and write. Defaults to false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// IsZero tells whether nothing is set.
func (t TLS) IsZero() bool { return t == TLS{} }

// TLSError is a failure to read the files of a TLS.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// Load reads the files. An error is a *TLSError.
func (t TLS) Load() (*tls.Config, error) {
	c, err := t.load()
	if err != nil {
		return nil, &TLSError{err}
	}
	return c, nil
}

func (t TLS) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, fmt.Errorf("tls.cert_file and tls.key_file: set both or none")
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file %s with tls.key_file %s: %w", t.CertFile, t.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
