// Package certtest makes certificates for tests: authorities, and certificates of servers and clients with lives of any length.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewAuthority makes an authority that lives for an hour.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t)}
	a.cert = &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	check(t, err)
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	return a
}

// WriteCA writes the authority's own certificate, and those of others behind it.
func (a *Authority) WriteCA(file string, others ...*Authority) {
	a.t.Helper()
	text := encode("CERTIFICATE", a.cert.Raw)
	for _, o := range others {
		text = append(text, encode("CERTIFICATE", o.cert.Raw)...)
	}
	replace(a.t, file, text)
}

// Write makes a certificate for a server at 127.0.0.1 or a client, valid from a minute ago for life from now, and puts it and its
// key in place of what the files hold, each in one step.
func (a *Authority) Write(name, certFile, keyFile string, life time.Duration) {
	a.t.Helper()
	key := newKey(a.t)
	cert := &x509.Certificate{
		SerialNumber: serial(a.t), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	check(a.t, err)
	private, err := x509.MarshalECPrivateKey(key)
	check(a.t, err)
	replace(a.t, certFile, encode("CERTIFICATE", der))
	replace(a.t, keyFile, encode("EC PRIVATE KEY", private))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(t, err)
	return n
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func replace(t testing.TB, file string, text []byte) {
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	check(t, os.WriteFile(tmp, text, 0o600))
	check(t, os.Rename(tmp, file))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
