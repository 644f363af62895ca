package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// certificates are those of an authority, a server and a client, in files.
type certificates struct{ ca, otherCA, cert, key, clientCert, clientKey string }

func newCertificates(t *testing.T) certificates {
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	serial := int64(0)
	issue := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		serial++
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if parent == nil {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		require.NoError(t, err)
		private, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		return c, key, file(name+".pem", "CERTIFICATE", der), file(name+".key", "PRIVATE KEY", private)
	}
	var c certificates
	ca, signer, path, _ := issue("ca", nil, nil)
	c.ca = path
	_, _, c.otherCA, _ = issue("other", nil, nil)
	_, _, c.cert, c.key = issue("server", ca, signer)
	_, _, c.clientCert, c.clientKey = issue("client", ca, signer)
	return c
}

// Access control of RocketMQ 5 (which has the signatures of version 4), on name server and broker that know each other by TLS and ask
// clients for certificates.
func TestEncryptedAndSigned(t *testing.T) {
	certs := newCertificates(t)
	conf := filepath.Join(t.TempDir(), "tls.properties")
	require.NoError(t, os.WriteFile(conf, []byte(strings.Join([]string{
		"tls.test.mode.enable=false", "tls.server.need.client.auth=require", "tls.server.authClient=true",
		"tls.server.keyPath=" + certs.key, "tls.server.certPath=" + certs.cert, "tls.server.trustCertPath=" + certs.ca,
		"tls.client.authServer=true", "tls.client.trustCertPath=" + certs.ca, "tls.client.keyPath=" + certs.clientKey, "tls.client.certPath=" + certs.clientCert,
	}, "\n")), 0o600))
	set := services.Isolated(t, services.Options{
		// Permissive: who speaks TLS gets it, who does not (the check that the servers are up) is served too.
		RocketJVM: []string{"-Dtls.enable=true", "-Dtls.server.mode=permissive", "-Dtls.config.file=" + conf},
		BrokerConf: map[string]string{
			"authenticationEnabled":                "true",
			"authenticationProvider":               "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
			"authenticationMetadataProvider":       "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
			"authorizationEnabled":                 "true",
			"authorizationProvider":                "org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider",
			"authorizationMetadataProvider":        "org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider",
			"initAuthenticationUser":               `{"username":"mill","password":"race1234"}`,
			"innerClientAuthenticationCredentials": `{"accessKey":"mill","secretKey":"race1234"}`,
		},
	}, services.RocketBroker)
	good := rocketmqsink.Connection{
		NameServers: []string{set.NameServer()}, Timeout: 20 * time.Second, AccessKey: "mill", SecretKey: "race1234",
		TLS: rocketmqsink.TLS{Enabled: true, CAFile: certs.ca, CertFile: certs.clientCert, KeyFile: certs.clientKey},
	}
	c, err := rocketmq.NewClient(good)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for _, topic := range []string{"in", "out"} {
		require.NoError(t, c.CreateTopic(t.Context(), flow.SystemClock(), topic, 2))
	}
	props, err := rocketmq.AppendProperty(nil, "n", "ü") // signed as text
	require.NoError(t, err)
	var data []byte
	for i := range 10 {
		data, err = rocketmq.AppendMessage(data, fmt.Appendf(nil, "dev-%07d %d", i, i), props)
		require.NoError(t, err)
	}
	r, err := c.Call(t.Context(), set.Broker(), rocketmq.SendBatch("test", "in", rocketmq.Queue{Broker: "broker-a"}, time.Now(), data))
	require.NoError(t, err)
	require.NoError(t, r.Err())
	r.Release()
	r, err = c.Call(t.Context(), set.Broker(), rocketmq.Request{Code: 3001, Ext: map[string]string{"username": "guest"},
		Body: [][]byte{[]byte(`{"username":"guest","password":"guest123","userType":"Normal","userStatus":"enable"}`)}})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	r.Release()

	// The client library beside ours: what only a broker of one's own may be asked for (a thread of RocketMQ 5.5 is busy for ever from
	// its first transaction on).
	plain := good
	plain.TLS = rocketmqsink.TLS{} // which the server permits
	for _, topic := range []string{"of-the-client", "of-the-sink"} {
		require.NoError(t, c.CreateTopic(t.Context(), flow.SystemClock(), topic, 1))
	}
	t.Run("source reads the client's", func(t *testing.T) { sourceReadsCommittedMessagesOfTheClientByTag(t, set, plain, "of-the-client") })
	t.Run("client reads the sink's", func(t *testing.T) { clientReadsTransactionsOfTheSinkByACondition(t, plain, "of-the-sink") })

	// run copies in to out and returns what ended it, nil when all ten messages have come.
	run := func(source, sink rocketmqsink.Connection, transactional bool) error {
		before := total(t, c, set, "out")
		topo := flow.New("copy", flow.WithEpochInterval(20*time.Millisecond), flow.WithLogger(slog.New(slog.DiscardHandler)))
		group := fmt.Sprintf("g-%x", time.Now().UnixNano())
		in := flow.From(topo, "in", rocketmqsource.Source(rocketmqsource.Config{Connection: source, Topic: "in", Group: group, PollTimeout: time.Second}, text{}))
		flow.To(in, "out", rocketmqsink.Sink(rocketmqsink.Config{Connection: sink, Topic: "out", Group: "p-" + group, Transactional: transactional}, text{},
			rocketmqsink.Key(deviceOf)))
		ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- topo.Run(ctx) }()
		for total(t, c, set, "out") < before+10 {
			select {
			case err := <-done:
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
		stop()
		return <-done
	}
	require.NoError(t, run(good, good, false))
	require.NoError(t, run(good, good, true))

	with := func(change func(*rocketmqsink.Connection)) rocketmqsink.Connection {
		bad := good
		change(&bad)
		return bad
	}
	wrong := with(func(c *rocketmqsink.Connection) { c.SecretKey = "wrong" })
	nobody := with(func(c *rocketmqsink.Connection) { c.AccessKey = "nobody" })
	unsigned := with(func(c *rocketmqsink.Connection) { c.AccessKey, c.SecretKey = "", "" })
	guest := with(func(c *rocketmqsink.Connection) { c.AccessKey, c.SecretKey = "guest", "guest123" })
	for name, err := range map[string]error{
		"source with a wrong secret": run(wrong, good, false), "sink with a wrong secret": run(good, wrong, false),
		"transactional sink with a wrong secret": run(good, wrong, true), "unknown user": run(nobody, good, false), "unsigned sink": run(good, unsigned, false),
		"source that may not read": run(guest, good, false), "sink that may not write": run(good, guest, false),
	} {
		require.Error(t, err, name)
		t.Logf("%s: %v", name, err)
		require.False(t, flow.IsTransient(err), name)
		require.ErrorContains(t, err, "check access_key and secret_key", name)
		require.NotContains(t, err.Error(), "race1234")
	}

	// A server that cannot be trusted, or does not trust us, may be mended: it is tried on, and the error says what is wrong.
	for name, bad := range map[string]rocketmqsink.Connection{
		"certificate signed by unknown authority": with(func(c *rocketmqsink.Connection) { c.TLS.CAFile = certs.otherCA }),
		"tls: bad certificate":                    with(func(c *rocketmqsink.Connection) { c.TLS.CertFile, c.TLS.KeyFile = "", "" }),
	} {
		s := rocketmqsink.Sink(rocketmqsink.Config{Connection: bad, Topic: "out"}, text{})
		err := s.Open(t.Context(), sinkRuntime())
		require.True(t, flow.IsTransient(err), name)
		require.ErrorContains(t, err, name)
		require.NoError(t, s.Close(t.Context()))
	}
}

// total is how many messages a topic of two queues holds.
func total(t *testing.T, c *rocketmq.Client, set *services.Set, topic string) (n int64) {
	for q := range 2 {
		m, err := c.MaxOffset(t.Context(), set.Broker(), topic, rocketmq.Queue{Broker: "broker-a", ID: q})
		require.NoError(t, err)
		n += m
	}
	return n
}
