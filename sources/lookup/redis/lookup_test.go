package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	client "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sources/lookup/redis"
)

// The client's attempts to connect again end up to a second after it is closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

type site struct {
	Name     string
	Limit    float64 `redis:"max"`
	Interval time.Duration
}

// setup returns the shared server's configuration, with a prefix of the test's own, and a client.
func setup(t *testing.T) (redis.Config, *client.Client) {
	t.Helper()
	s := services.Need(t, services.Redis)
	return redis.Config{Addresses: []string{s.Redis()}, Prefix: t.Name() + ":"}, direct(t, s.Redis())
}

func direct(t *testing.T, address string) *client.Client {
	t.Helper()
	c := client.NewClient(&client.Options{Addr: address})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func ask[K comparable, V any](t *testing.T, l *redis.Lookup[K, V], keys ...K) ([]V, []bool, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	vals, found := make([]V, len(keys)), make([]bool, len(keys))
	err := l.Lookup(ctx, keys, vals, found)
	return vals, found, err
}

func values[K comparable](t *testing.T, cfg redis.Config) *redis.Lookup[K, site] {
	t.Helper()
	l, err := redis.Values[K](cfg, codec.JSON[site]())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestValues(t *testing.T) {
	t.Parallel()
	cfg, c := setup(t)
	for i := range 300 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint(cfg.Prefix, i), fmt.Sprintf(`{"Name":"site %d"}`, i), time.Hour).Err())
	}
	l := values[int](t, cfg)
	vals, found, err := ask(t, l, 7, -1, 299)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true}, found)
	require.Equal(t, []site{{Name: "site 7"}, {}, {Name: "site 299"}}, vals)
	keys := make([]int, 300)
	for i := range keys {
		keys[i] = i
	}
	_, found, err = ask(t, l, keys...)
	require.NoError(t, err)
	require.NotContains(t, found, false)
}

func TestHashes(t *testing.T) {
	t.Parallel()
	cfg, c := setup(t)
	require.NoError(t, c.HSet(t.Context(), cfg.Prefix+"a", "name", "Hall", "max", "30.5", "interval", "1m", "more", "x").Err())
	require.NoError(t, c.HSet(t.Context(), cfg.Prefix+"b", "name", "Gate").Err())
	require.NoError(t, c.HSet(t.Context(), cfg.Prefix+"bad", "max", "warm").Err())
	l, err := redis.Hashes[string, site](cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	vals, found, err := ask(t, l, "a", "b", "c")
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, found)
	require.Equal(t, []site{{"Hall", 30.5, time.Minute}, {Name: "Gate"}, {}}, vals)
	_, _, err = ask(t, l, "a", "bad")
	require.ErrorContains(t, err, `field "max": "warm" is no float64`)
	require.False(t, flow.IsTransient(err))
}

func TestValuesThatDoNotFitAreTheirKeysFault(t *testing.T) {
	t.Parallel()
	cfg, c := setup(t)
	require.NoError(t, c.HSet(t.Context(), cfg.Prefix+"hash", "name", "Hall").Err())
	require.NoError(t, c.Set(t.Context(), cfg.Prefix+"text", "no json", time.Hour).Err())
	for key, want := range map[string]string{"hash": "the key holds another type", "text": "cannot be decoded as json"} {
		_, _, err := ask(t, values[string](t, cfg), "none", key)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, cfg.Prefix+key)
		require.False(t, flow.IsTransient(err))
	}
	h, err := redis.Hashes[string, site](cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Close()) }()
	_, _, err = ask(t, h, "text")
	require.ErrorContains(t, err, "the key holds another type")
	require.False(t, flow.IsTransient(err))
}

// TestWhatNoRecordIsToBlameForIsTransient: a wrong password is tried until somebody mends it.
func TestWhatNoRecordIsToBlameForIsTransient(t *testing.T) {
	t.Parallel()
	cfg, c := setup(t)
	require.NoError(t, c.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">right", "~nothing", "+get", "+mget", "+hello").Err())
	for want, change := range map[string]func(*redis.Config){
		"check user and password": func(c *redis.Config) { c.User, c.Password = "reader", "wrong-one" },
		"allow the user":          func(c *redis.Config) { c.User, c.Password = "reader", "right" },
		"connection refused":      func(c *redis.Config) { c.Addresses = []string{"127.0.0.1:1"} },
		"tls.ca_file":             func(c *redis.Config) { c.TLS = redis.TLS{Enabled: true, CAFile: "none.pem"} },
		"vault sealed": func(c *redis.Config) {
			c.Credentials = func(context.Context) (string, redis.Secret, error) { return "", "", errors.New("vault sealed") }
		},
	} {
		bad := cfg
		change(&bad)
		_, _, err := ask(t, values[string](t, bad), "a")
		require.ErrorContains(t, err, want)
		require.True(t, flow.IsTransient(err), err)
		require.NotContains(t, err.Error(), "wrong-one")
		h, err := redis.Hashes[string, site](bad)
		require.NoError(t, err)
		_, _, err = ask(t, h, "a")
		require.ErrorContains(t, err, want)
		require.True(t, flow.IsTransient(err), err)
		require.NoError(t, h.Close())
	}
	cfg.User, cfg.Prefix = "none", "nothing"
	cfg.Credentials = func(context.Context) (string, redis.Secret, error) { return "reader", "right", nil }
	_, found, err := ask(t, values[string](t, cfg), "")
	require.NoError(t, err)
	require.False(t, found[0])
}

func TestCluster(t *testing.T) {
	t.Parallel()
	s := services.Isolated(t, services.Options{RedisArgs: []string{"--cluster-enabled", "yes"}}, services.Redis)
	c := direct(t, s.Redis())
	require.NoError(t, c.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	cfg := redis.Config{Addresses: []string{s.Redis()}, Cluster: true}
	l := values[string](t, cfg)
	require.Eventually(t, func() bool { return c.Set(t.Context(), "a", `{"Name":"Hall"}`, 0).Err() == nil }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, c.Set(t.Context(), "b", `{"Name":"Gate"}`, 0).Err())
	var vals []site
	require.Eventually(t, func() bool {
		var found []bool
		var err error
		vals, found, err = ask(t, l, "a", "b", "none")
		return err == nil && found[0] && found[1] && !found[2]
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, []site{{Name: "Hall"}, {Name: "Gate"}, {}}, vals)
	cfg.Cluster = false
	_, _, err := ask(t, values[string](t, cfg), "a", "b")
	require.ErrorContains(t, err, "the server is part of a cluster: set cluster")
}

// TestTLS goes through a proxy that takes TLS off, since the client sees no difference.
func TestTLS(t *testing.T) {
	t.Parallel()
	cfg, c := setup(t)
	require.NoError(t, c.Set(t.Context(), cfg.Prefix+"a", `{"Name":"Hall"}`, time.Hour).Err())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	require.NoError(t, err)
	relayed := relay(listener, cfg.Addresses[0])
	cfg.Addresses = []string{listener.Addr().String()}
	cfg.TLS = redis.TLS{Enabled: true}
	distrusting := values[string](t, cfg)
	_, _, err = ask(t, distrusting, "a")
	require.ErrorContains(t, err, "certificate")
	require.True(t, flow.IsTransient(err))
	cfg.TLS.CAFile = ca
	l, err := redis.Values[string](cfg, codec.JSON[site]())
	require.NoError(t, err)
	vals, _, err := ask(t, l, "a")
	require.NoError(t, err)
	require.Equal(t, "Hall", vals[0].Name)
	require.NoError(t, l.Close())
	require.NoError(t, listener.Close())
	relayed()
}

// relay passes connections on until the listener is closed; the function returned waits for its end.
func relay(l net.Listener, to string) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = in.Close() }()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				wg.Go(func() { _, _ = io.Copy(in, out) })
				_, _ = io.Copy(out, in)
			})
		}
	})
	return wg.Wait
}

func TestTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	silent := values[string](t, redis.Config{Addresses: []string{l.Addr().String()}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.Error(t, silent.Lookup(ctx, []string{"a"}, make([]site, 1), make([]bool, 1)))
	require.Less(t, time.Since(began), 4*time.Second)
}

// TestServerRestart kills the server while records wait: the topology goes on, and every record comes out, once, in order.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := services.Isolated(t, services.Options{}, services.Redis)
	c := direct(t, s.Redis())
	var want []string
	for i := range 100 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint("dev-", i), fmt.Sprintf(`{"Name":"site %d"}`, i), 0).Err())
		want = append(want, fmt.Sprintf("dev-%dsite %dtrue", i, i))
	}
	l := values[string](t, redis.Config{Addresses: []string{s.Redis()}, Prefix: "dev-"})
	src, out := flowtest.NewSource[int](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("restart", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "site", operators.Lookup[string, site](l), func(v int) string { return fmt.Sprint(v) },
			func(v int, with site, found bool) (string, error) {
				return fmt.Sprint("dev-", v, with.Name, found), nil
			},
			operators.LookupBatch(8)), "out", out)
		return top
	}, src)
	feed := func(from, to int) {
		for i := from; i < to; i++ {
			src.Feed(i)
		}
	}
	answered := func(n int) func() bool {
		return func() bool {
			r.Clock.Advance(100 * time.Millisecond)
			r.Epoch()
			return len(out.Values()) == n
		}
	}
	counter := func(name string) int64 {
		for _, c := range r.Running().Counters() {
			if c.Name == name {
				return c.Value
			}
		}
		return 0
	}
	feed(0, 40)
	require.Eventually(t, answered(40), 20*time.Second, time.Millisecond)
	require.NoError(t, s.Kill(t.Context(), services.Redis))
	feed(40, 80)
	require.Eventually(t, func() bool { answered(0)(); return counter("lookup_errors") > 5 }, 20*time.Second, time.Millisecond)
	require.Len(t, out.Values(), 40)
	require.NoError(t, s.Start(t.Context(), services.Redis))
	feed(80, 100)
	require.Eventually(t, answered(100), 20*time.Second, time.Millisecond)
	require.Equal(t, want, out.Values())
	r.Stop()
}

func TestConfigFromYAML(t *testing.T) {
	t.Parallel()
	var got redis.Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
addresses: [cache:6379]
db: 2
user: mill
password: hunter2
tls: {enabled: true}
prefix: "site:"
`), &got, yaml.Strict()))
	require.Equal(t, redis.Config{
		Addresses: []string{"cache:6379"}, DB: 2, User: "mill", Password: "hunter2", TLS: redis.TLS{Enabled: true}, Prefix: "site:",
	}, got)
	require.NoError(t, got.Validate())
	text, err := yaml.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter2")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", got, got, got), "hunter2")
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	good := redis.Config{Addresses: []string{"cache:6379"}}
	for want, change := range map[string]func(*redis.Config){
		"addresses is empty":        func(c *redis.Config) { c.Addresses = nil },
		`address "cache"`:           func(c *redis.Config) { c.Addresses = []string{"cache"} },
		"cluster and master":        func(c *redis.Config) { c.Cluster, c.Master = true, "m" },
		"a cluster has database 0":  func(c *redis.Config) { c.Addresses, c.DB = []string{"a:1", "b:1"}, 1 },
		"db is negative":            func(c *redis.Config) { c.DB = -1 },
		"max_conns or connect_time": func(c *redis.Config) { c.MaxConns = -1 },
		"is not enabled":            func(c *redis.Config) { c.TLS.ServerName = "x" },
		"set both or none":          func(c *redis.Config) { c.TLS = redis.TLS{Enabled: true, CertFile: "c"} },
	} {
		cfg := good
		change(&cfg)
		_, err := redis.Values[string](cfg, codec.JSON[site]())
		require.ErrorContains(t, err, want)
	}
	_, err := redis.Values[string, site](good, nil)
	require.ErrorContains(t, err, "the codec is nil")
	_, err = redis.Values[float64](good, codec.JSON[site]())
	require.ErrorContains(t, err, "let the key function give a string")
	_, err = redis.Hashes[string, int](good)
	require.ErrorContains(t, err, "a hash cannot be a int")
	_, err = redis.Hashes[string, struct{ Tags []string }](good)
	require.ErrorContains(t, err, "field Tags: a []string cannot be read from text")
}

// BenchmarkBatch is what a batch of 128 keys costs over the loopback.
func BenchmarkBatch(b *testing.B) {
	s := services.Need(b, services.Redis)
	c := client.NewClient(&client.Options{Addr: s.Redis()})
	defer func() { _ = c.Close() }()
	keys := make([]int, 128)
	names := make([]string, len(keys))
	for i := range keys {
		keys[i], names[i] = i, fmt.Sprint("bench:", i)
		require.NoError(b, c.Set(b.Context(), names[i], `{"Name":"site"}`, time.Hour).Err())
	}
	vals, found := make([]site, len(keys)), make([]bool, len(keys))
	b.Run("lookup", func(b *testing.B) {
		l, err := redis.Values[int](redis.Config{Addresses: []string{s.Redis()}, Prefix: "bench:"}, codec.JSON[site]())
		require.NoError(b, err)
		defer func() { _ = l.Close() }()
		for b.Loop() {
			require.NoError(b, l.Lookup(b.Context(), keys, vals, found))
		}
	})
	b.Run("MGET", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, c.MGet(b.Context(), names...).Err())
		}
	})
}
