package rocketmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Via decides where connections lead, TLS or not; certificates are those of the address that was asked for.
func TestVia(t *testing.T) {
	lender := httptest.NewTLSServer(nil)
	cert, ca := lender.TLS.Certificates[0], lender.Certificate()
	lender.Close()
	answer := func(int, map[string]string) (int, string) { return 0, "here" }
	plain := listen(t)
	encrypted := listen(t)
	serveOn(t, plain, answer)
	serveOn(t, tls.NewListener(encrypted, &tls.Config{Certificates: []tls.Certificate{cert}}), answer)

	config := &tls.Config{RootCAs: certPool(ca)}
	call := func(to net.Listener, addr string, conf *tls.Config) error {
		c, err := New(Options{
			NameServers: []string{addr}, Timeout: 2 * time.Second, TLS: conf,
			Via: func(ctx context.Context, asked string) (net.Conn, error) {
				require.Equal(t, addr, asked)
				return (&net.Dialer{}).DialContext(ctx, "tcp", to.Addr().String())
			},
		})
		require.NoError(t, err)
		defer c.Close()
		r, err := c.Call(t.Context(), addr, Request{Code: 1})
		if err == nil {
			require.Equal(t, "here", string(r.Body))
			r.Release()
		}
		return err
	}
	require.NoError(t, call(plain, "broker.inside:10911", nil))
	require.NoError(t, call(encrypted, "example.com:10911", config))
	require.ErrorContains(t, call(encrypted, "other.org:10911", config), "other.org")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func certPool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}
