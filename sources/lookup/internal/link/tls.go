package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS says how to trust the server and how to be trusted by it. The files are read again for each connection, so that renewed
// certificates are taken without a restart.
type TLS struct {
	// Enabled makes connections encrypted. Defaults to false; an https address is encrypted in any case.
	Enabled bool `yaml:"enabled"`
	// CAFile holds the certificates (PEM) that the server's must be signed by. Defaults to the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are this client's certificate and key (PEM), both or none. Defaults to none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name that the server's certificate must carry. Defaults to the host of the address.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify accepts any certificate, so that anybody in between can read and write. Defaults to false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Validate finds settings that contradict each other.
func (t TLS) Validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("tls.cert_file and tls.key_file: set both or none")
	}
	return nil
}

// Needless tells whether settings have no effect, since nothing is encrypted.
func (t TLS) Needless() bool { return !t.Enabled && t != TLS{} }

// Load reads the files. host is the server's.
func (t TLS) Load(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if c.ServerName == "" {
		c.ServerName = host
	}
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
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file %s with tls.key_file %s: %w", t.CertFile, t.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
