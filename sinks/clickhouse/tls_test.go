package clickhouse

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// encrypted stands in front of a server, takes TLS off, and gives the file of the authority to trust.
func encrypted(t *testing.T, to string) (addr, caFile string) {
	t.Helper()
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	t.Cleanup(cert.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw}), 0o600))
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = client.Close() }()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = server.Close() }()
				wg.Go(func() {
					_, _ = io.Copy(server, client)
					_ = server.Close()
				})
				_, _ = io.Copy(client, server)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String(), caFile
}

func TestTLS(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		addr, ca := encrypted(t, s.cfg.Addr[0])
		cfg := s.cfg
		cfg.Addr, cfg.TLS = []string{addr}, TLS{Enabled: true, CAFile: ca}
		conn := New(cfg)
		require.NoError(t, CreateTable[reading](t.Context(), conn, "sealed"))
		k := Rows[reading](conn, "sealed")
		require.NoError(t, k.Open(t.Context(), (&engine{}).runtime()))
		deliver(t, k, seal(t, k, readings(0, 100)...))
		require.Equal(t, "100", s.one(t, "SELECT count() FROM @sealed"))
		require.NoError(t, conn.Close())

		cfg.TLS.CAFile = "" // an authority that nobody trusts
		conn = New(cfg)
		err := Rows[reading](conn, "sealed").Open(t.Context(), (&engine{}).runtime())
		require.ErrorContains(t, err, "certificate")
		require.True(t, flow.IsTransient(err))
		require.NoError(t, conn.Close())
	})
}
