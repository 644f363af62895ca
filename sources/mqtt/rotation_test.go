package mqtt_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/mqttconn/certtest"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// Certificates are replaced while the source runs: the client's before it expires, then the broker's and its authority. Files
// that are half way to new ones are waited for.
func TestCertificatesAreReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mqtt.Protocol{mqtt.V311, mqtt.V5} {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := func(name string) string { return filepath.Join(dir, name) }
			brokers, clients := certtest.NewAuthority(t, "brokers"), certtest.NewAuthority(t, "clients")
			brokers.WriteCA(file("ca.pem"))
			clients.WriteCA(file("clients.pem"))
			brokers.Write("broker", file("broker.pem"), file("broker.key"), time.Hour)
			clients.Write("publisher", file("publisher.pem"), file("publisher.key"), time.Hour)
			const life = 3 * time.Second // in whole seconds, which certificates count in
			clients.Write("source", file("source.pem"), file("source.key"), life)
			old, err := tls.LoadX509KeyPair(file("source.pem"), file("source.key"))
			require.NoError(t, err)
			s := services.Isolated(t, services.Options{MosquittoConf: []string{
				"cafile " + file("clients.pem"), "certfile " + file("broker.pem"), "keyfile " + file("broker.key"), "require_certificate true",
			}}, services.Mosquitto)

			via := newProxy(t, s.MQTT())
			cfg := configFor(via.addr(), "d")
			cfg.Protocol, cfg.Brokers = protocol, []string{"ssl://" + via.addr()}
			cfg.TLS = mqtt.TLS{CAFile: file("ca.pem"), CertFile: file("source.pem"), KeyFile: file("source.key")}
			e := start(t, cfg)
			e.awaitIdle()
			publish := func(from, to int) {
				conf, err := mqtt.TLS{CAFile: file("ca.pem"), CertFile: file("publisher.pem"), KeyFile: file("publisher.key")}.Load()
				require.NoError(t, err)
				c := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + s.MQTT()).SetClientID("publisher").SetTLSConfig(conf))
				p := &publisher{t: t, c: c}
				p.await(c.Connect())
				p.publish("d", from, to)
				c.Disconnect(250)
			}
			publish(0, 10)
			e.await(10)

			clients.Write("source", file("source.pem"), file("source.key"), time.Hour)
			require.Eventually(t, func() bool { return refuses(t, s.MQTT(), old) }, patience, 50*time.Millisecond, "the old certificate expires")
			via.cut()
			e.eventually(func() bool { return e.count("reconnects") == 1 }, "reconnected", func() any { return e.log })
			publish(10, 20)
			e.await(20)

			require.NoError(t, os.WriteFile(file("source.key"), []byte("half a key"), 0o600))
			via.cut()
			e.eventually(func() bool { return e.log.lines("tls.cert_file") > 0 }, "waits for the key", func() any { return e.log })
			clients.Write("source", file("source.pem"), file("source.key"), time.Hour)
			e.eventually(func() bool { return e.count("reconnects") == 2 }, "reconnected", func() any { return e.log })

			others := certtest.NewAuthority(t, "other brokers")
			others.Write("broker", file("broker.pem"), file("broker.key"), time.Hour)
			require.NoError(t, s.Down(t.Context(), services.Mosquitto))
			require.NoError(t, s.Start(t.Context(), services.Mosquitto))
			e.eventually(func() bool { return e.log.lines("cannot be trusted") > 0 }, "does not trust it", func() any { return e.log })
			others.WriteCA(file("ca.pem"), brokers)
			e.eventually(func() bool { return e.count("reconnects") == 3 }, "reconnected", func() any { return e.log })
			publish(20, 30)
			e.awaitAll(30)
			repeats := complete(t, 30, e.values()) // a broker that ends sends again what it has not read the acks of
			t.Log(repeats, "repeats")
		})
	}
}

// refuses tells whether a broker takes no client with a certificate.
func refuses(t *testing.T, addr string, cert tls.Certificate) bool {
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
	if err != nil {
		return true
	}
	defer func() { _ = c.Close() }()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	if _, err := c.Write([]byte("\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05" + strconv.Itoa(10000+os.Getpid()%89999))); err != nil {
		return true
	}
	answer := make([]byte, 4)
	_, err = c.Read(answer)
	return err != nil
}
