package kafka

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
)

// The fake brokers let a reader of theirs outlive their Close for a moment.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1"))
}

// brokers are fake ones.
func brokers(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.SeedTopics(2, "readings"))...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ask(t *testing.T, c *kfake.Cluster, conn Connection) error {
	t.Helper()
	conn.Brokers = c.ListenAddrs()
	conn.Timeout = 2 * time.Second
	client, err := Open(conn.WithDefaults(), kgo.RequestRetries(1))
	require.NoError(t, err)
	defer client.Close()
	topics, err := Topics(t.Context(), client, conn.Timeout, "readings")
	if err == nil {
		require.Equal(t, 2, len(topics["readings"].Partitions))
	}
	return err
}

func TestSASL(t *testing.T) {
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		c := brokers(t, kfake.EnableSASL(), kfake.Superuser(name, "u", "right"))
		require.NoError(t, ask(t, c, Connection{SASL: SASL{Mechanism: mechanism, User: "u", Password: "right"}}), mechanism)

		c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse) // the fake only hangs up
			resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
			return resp, nil, true
		})
		err := ask(t, c, Connection{SASL: SASL{Mechanism: mechanism, User: "u", Password: "wrong"}})
		require.ErrorContains(t, err, "sasl.password", mechanism)
		require.False(t, flow.IsTransient(err))
		require.NotContains(t, err.Error(), "wrong")
	}
	c := brokers(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	err := ask(t, c, Connection{SASL: SASL{Mechanism: "scram-sha-256", User: "u", Password: "right"}})
	require.Error(t, err)
	require.ErrorContains(t, ask(t, c, Connection{}), "SASL")

	for _, s := range []SASL{{Mechanism: "kerberos", User: "u", Password: "p"}, {Mechanism: "plain"}, {User: "u"}} {
		_, err := s.mechanism()
		require.ErrorContains(t, err, "sasl")
	}
}

func TestTLSVerifiesTheBroker(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1 and example.com
	cert, ca := lender.TLS.Certificates[0], lender.Certificate().Raw
	lender.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca}), 0o600))
	c := brokers(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))

	tcp := func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for _, dial := range []func(context.Context, string, string) (net.Conn, error){nil, tcp} {
		call := func(t *testing.T, cfg TLS) error { return ask(t, c, Connection{TLS: cfg, Dial: dial}) }
		require.NoError(t, call(t, TLS{Enabled: true, CAFile: file}))
		require.NoError(t, call(t, TLS{Enabled: true, CAFile: file, ServerName: "example.com"}))
		require.NoError(t, call(t, TLS{Enabled: true, SkipVerify: true}))
		for _, wrong := range []TLS{{Enabled: true}, {Enabled: true, CAFile: file, ServerName: "other.org"}} {
			err := call(t, wrong)
			require.ErrorContains(t, err, "tls.ca_file")
			require.False(t, flow.IsTransient(err))
		}
		require.ErrorContains(t, call(t, TLS{}), "TLS", "plain text to a TLS port")
	}
	plain := brokers(t)
	err := ask(t, plain, Connection{TLS: TLS{Enabled: true}})
	require.Error(t, err)

	_, err = TLS{Enabled: true, CAFile: "no-such.pem"}.Config()
	require.ErrorContains(t, err, "tls.ca_file")
	_, err = TLS{Enabled: true, CertFile: "no-such.pem"}.Config()
	require.ErrorContains(t, err, "tls.cert_file")
}

func TestErrorsAreClassed(t *testing.T) {
	for _, err := range []error{kerr.LeaderNotAvailable, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError, errors.New("connection refused"), kerr.OutOfOrderSequenceNumber} {
		require.True(t, flow.IsTransient(Err(t.Context(), err)), "%v", err)
	}
	for _, err := range []error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnknownMemberID, kerr.InvalidTransactionTimeout,
	} {
		classed := Err(t.Context(), err)
		require.False(t, flow.IsTransient(classed), "%v", err)
		require.ErrorIs(t, classed, err)
		require.Contains(t, classed.Error(), "; ", "names the cure")
	}
	require.NoError(t, Err(t.Context(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Err(ctx, kerr.LeaderNotAvailable), context.Canceled)
	require.True(t, Refused(kerr.MessageTooLarge))
	require.False(t, Refused(kerr.NotLeaderForPartition))
}

func TestASilentBrokerIsGivenUpAfterTheTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	client, err := Open(Connection{Brokers: []string{l.Addr().String()}, Timeout: 200 * time.Millisecond}.WithDefaults())
	require.NoError(t, err)
	defer client.Close()
	_, err = Topics(t.Context(), client, 200*time.Millisecond, "t")
	require.True(t, flow.IsTransient(err))
}
