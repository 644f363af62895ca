package rocketmq

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTLSVerifiesTheServer(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1 and example.com
	cert, ca := lender.TLS.Certificates[0], lender.Certificate().Raw
	lender.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := serveOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), func(int, map[string]string) (int, string) { return 0, "secret" })
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca}), 0o600))

	call := func(cfg TLS) error {
		config, err := cfg.Config()
		require.NoError(t, err)
		c, err := New(Options{NameServers: []string{s.addr}, Timeout: 2 * time.Second, TLS: config})
		require.NoError(t, err)
		defer c.Close()
		r, err := c.Call(t.Context(), s.addr, Request{Code: 1, Body: [][]byte{[]byte("in "), []byte("pieces")}})
		if err == nil {
			require.Equal(t, "secret", string(r.Body))
			r.Release()
		}
		return err
	}
	require.NoError(t, call(TLS{Enabled: true, CAFile: file}))
	require.NoError(t, call(TLS{Enabled: true, CAFile: file, ServerName: "example.com"}))
	require.NoError(t, call(TLS{Enabled: true, SkipVerify: true}))
	require.ErrorContains(t, call(TLS{Enabled: true}), "certificate")
	require.ErrorContains(t, call(TLS{Enabled: true, CAFile: file, ServerName: "other.org"}), "other.org")
	require.Error(t, call(TLS{}), "plain text to a TLS port")

	_, err = TLS{Enabled: true, CAFile: "no-such.pem"}.Config()
	require.ErrorContains(t, err, "tls.ca_file")
	_, err = TLS{Enabled: true, CertFile: "no-such.pem"}.Config()
	require.ErrorContains(t, err, "tls.cert_file")
}
