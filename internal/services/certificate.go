package services

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate returns the file with the certificate (PEM) of MariaDB or PostgreSQL, which clients must trust.
func (s *Set) Certificate(name string) string { return filepath.Join(s.dir(name), "certificate.pem") }

func (s *Set) certificateKey(name string) string { return filepath.Join(s.dir(name), "key.pem") }

// certify writes a certificate for 127.0.0.1 and localhost that signs itself, and its key, unless they are there.
func (s *Set) certify(name string) error {
	if _, err := os.Stat(s.Certificate(name)); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "millrace " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(file, kind string, der []byte) error {
		return writeFile(file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return errors.Join(write(s.certificateKey(name), "PRIVATE KEY", private), write(s.Certificate(name), "CERTIFICATE", cert))
}
