package http_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	lookup "github.com/millrace-stream/millrace/sources/lookup/http"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type site struct{ Name string }

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func get[K comparable](t *testing.T, cfg lookup.Config) *lookup.Lookup[K, site] {
	t.Helper()
	l, err := lookup.Get[K](cfg, codec.JSON[site]())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func ask[K comparable](t *testing.T, l *lookup.Lookup[K, site], keys ...K) ([]site, []bool, error) {
	t.Helper()
	vals, found := make([]site, len(keys)), make([]bool, len(keys))
	err := l.Lookup(t.Context(), keys, vals, found)
	return vals, found, err
}

func TestGet(t *testing.T) {
	t.Parallel()
	var most, now atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		if r.Header.Get("Authorization") != "Bearer hunter2" || r.Header.Get("X-Tenant") != "mill" || r.URL.Query().Get("by") != "a/b ?" && r.URL.Query().Get("by") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch key := strings.TrimPrefix(r.URL.EscapedPath(), "/sites/"); key {
		case "gone":
			w.WriteHeader(http.StatusGone)
		case "nothing":
			w.WriteHeader(http.StatusNoContent)
		case "missing":
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprintf(w, `{"Name":%q}`, key+r.URL.Query().Get("by"))
		}
	})
	cfg := lookup.Config{URL: s.URL + "/sites/{key}", Header: map[string]lookup.Secret{"X-Tenant": "mill"}, Token: "hunter2", Parallel: 3}
	vals, found, err := ask(t, get[string](t, cfg), "a", "missing", "gone", "nothing", "a/../b?c")
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, false, false, true}, found)
	require.Equal(t, []site{{"a"}, {}, {}, {}, {"a%2F..%2Fb%3Fc"}}, vals)
	require.LessOrEqual(t, most.Load(), int64(3))

	cfg.URL = s.URL + "/sites/x?by={key}"
	vals, _, err = ask(t, get[string](t, cfg), "a/b ?")
	require.NoError(t, err)
	require.Equal(t, "xa/b ?", vals[0].Name)

	cfg.Token = ""
	cfg.Credentials = func(context.Context) (lookup.Secret, error) { return "hunter2", nil }
	cfg.URL = s.URL + "/sites/{key}"
	vals, _, err = ask(t, get[uint8](t, cfg), 7)
	require.NoError(t, err)
	require.Equal(t, "7", vals[0].Name)
}

func TestPost(t *testing.T) {
	t.Parallel()
	requests := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		var keys []int
		if json.NewDecoder(r.Body).Decode(&keys) != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer := map[string]*site{"9": nil}
		for _, k := range keys {
			if k < 5 {
				answer[fmt.Sprint(k)] = &site{fmt.Sprint("site ", k)}
			}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	l, err := lookup.Post[int, site](lookup.Config{URL: s.URL})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	vals, found, err := ask(t, l, 3, 7, 4, 9)
	require.NoError(t, err)
	require.Equal(t, []bool{true, false, true, false}, found)
	require.Equal(t, []site{{"site 3"}, {}, {"site 4"}, {}}, vals)
	require.Equal(t, 1, requests)
}

func TestPostFunc(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s of %s", strings.ToUpper(string(body)), r.Header.Get("Content-Type"))
	})
	cfg := lookup.Config{URL: s.URL, Header: map[string]lookup.Secret{"Content-Type": "text/plain"}}
	l, err := lookup.PostFunc(cfg, func(keys []string) ([]byte, error) { return []byte(strings.Join(keys, ",")), nil },
		func(body []byte, keys []string, vals []site, found []bool) error {
			if keys[0] == "bad" {
				return errors.New("no such answer")
			}
			vals[0], found[0] = site{string(body)}, true
			return nil
		})
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	vals, _, err := ask(t, l, "a", "b")
	require.NoError(t, err)
	require.Equal(t, "A,B of text/plain", vals[0].Name)
	_, _, err = ask(t, l, "bad")
	require.ErrorContains(t, err, "no such answer")
	require.False(t, flow.IsTransient(err))
}

func TestAnswersThatHoldNoValue(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 101))
		case "/text":
			_, _ = io.WriteString(w, "no json")
		case "/cut":
			w.Header().Set("Content-Length", "50")
			_, _ = io.WriteString(w, "{")
		case "/302":
			http.Redirect(w, r, "http://elsewhere/?token=hunter2", http.StatusFound)
		default:
			var code int
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &code)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, " because ")
		}
	})
	l := get[string](t, lookup.Config{URL: s.URL + "/{key}?token=hunter2", MaxBody: 100})
	for key, c := range map[string]struct {
		transient bool
		want      string
	}{
		"400": {false, `400 Bad Request: "because"`}, "422": {false, "422"}, "413": {false, "413"},
		"401": {true, "check the token or header"}, "403": {true, "check the token or header"},
		"302": {true, "it redirects to http://elsewhere/, which is not followed"},
		"408": {true, "408"}, "425": {true, "425"}, "429": {true, "429"}, "500": {true, "500"}, "502": {true, "502"}, "503": {true, "503"},
		"long": {false, "the answer is longer than 100 bytes: raise max_body"},
		"text": {false, "key text: the answer cannot be decoded as json"},
		"cut":  {true, "the answer broke off"},
	} {
		_, _, err := ask(t, l, key)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "http lookup at "+s.URL+"/{key}: ")
		require.Equal(t, c.transient, flow.IsTransient(err), "%v", err)
		require.NotContains(t, err.Error(), "hunter2")
	}
	s.Close()
	_, _, err := ask(t, l, "a")
	require.ErrorContains(t, err, "connection refused")
	require.True(t, flow.IsTransient(err))
	require.NotContains(t, err.Error(), "hunter2")
}

type panicking struct{ codec.Codec[site] }

func (panicking) Decode([]byte, *site) error { panic("oh") }

func TestACodecThatPanicsIsAnError(t *testing.T) {
	t.Parallel()
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	l, err := lookup.Get[string](lookup.Config{URL: s.URL + "/{key}"}, codec.Codec[site](panicking{}))
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, _, err = ask(t, l, "a")
	require.ErrorIs(t, err, flow.ErrPanic)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/seconds":
			w.Header().Set("Retry-After", "7")
		case "/date":
			w.Header().Set("Date", "Mon, 06 May 2024 07:08:00 GMT")
			w.Header().Set("Retry-After", "Mon, 06 May 2024 07:08:09 GMT")
		case "/past":
			w.Header().Set("Date", "Mon, 06 May 2024 07:08:09 GMT")
			w.Header().Set("Retry-After", "Mon, 06 May 2024 07:08:00 GMT")
		case "/nonsense":
			w.Header().Set("Retry-After", "soon")
		}
		w.WriteHeader(http.StatusTooManyRequests)
	})
	l := get[string](t, lookup.Config{URL: s.URL + "/{key}"})
	for key, want := range map[string]time.Duration{"seconds": 7 * time.Second, "date": 9 * time.Second, "past": 0, "nonsense": -1} {
		_, _, err := ask(t, l, key)
		require.True(t, flow.IsTransient(err))
		later := (*lookup.LaterError)(nil)
		require.Equal(t, want >= 0, errors.As(err, &later), key)
		if later != nil {
			require.Equal(t, want, later.RetryAfter())
		}
	}
}

func TestTLSAndHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"Name":%q}`, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := lookup.Config{URL: s.URL + "/{key}"}
	_, _, err := ask(t, get[string](t, cfg), "a")
	require.ErrorContains(t, err, "certificate")
	require.True(t, flow.IsTransient(err))
	cfg.TLS.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(cfg.TLS.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	vals, _, err := ask(t, get[string](t, cfg), "a")
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", vals[0].Name)
}

func TestTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	l := get[string](t, lookup.Config{URL: s.URL + "/{key}"})
	require.Error(t, l.Lookup(ctx, []string{"a"}, make([]site, 1), make([]bool, 1)))
}

// TestServiceRestart ends the service while records wait, lets it refuse for a while, and brings it back on the same address: every
// record comes out, once, in order.
func TestServiceRestart(t *testing.T) {
	t.Parallel()
	var busy atomic.Bool
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy.Load() {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"Name":%q}`, r.URL.Path)
	})
	s := httptest.NewServer(handler)
	address := s.Listener.Addr().String()
	l := get[string](t, lookup.Config{URL: s.URL + "/{key}"})
	src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("restart", opts...)
		flow.To(operators.Enrich(flow.From(top, "in", src), "site", operators.Lookup[string, site](l), func(v string) string { return v },
			func(v string, with site, found bool) (string, error) { return fmt.Sprint(v, with.Name, found), nil },
			operators.LookupBatch(4)), "out", out)
		return top
	}, src)
	var want []string
	feed := func(n int) {
		for range n {
			k := fmt.Sprint(len(want))
			src.Feed(k)
			want = append(want, k+"/"+k+"true")
		}
	}
	counter := func(name string) (n int64) {
		for _, c := range r.Running().Counters() {
			if c.Name == name {
				n = c.Value
			}
		}
		return n
	}
	answered := func() bool {
		r.Clock.Advance(100 * time.Millisecond)
		r.Epoch()
		return len(out.Values()) == len(want)
	}
	feed(20)
	require.Eventually(t, answered, 20*time.Second, time.Millisecond)
	s.CloseClientConnections()
	s.Close()
	feed(20)
	require.Eventually(t, func() bool { answered(); return counter("lookup_errors") > 5 }, 20*time.Second, time.Millisecond)
	busy.Store(true)
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	s = &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}} //nolint:gosec // a test's
	s.Start()
	defer s.Close()
	before := counter("lookup_errors")
	require.Eventually(t, func() bool { answered(); return counter("lookup_errors") > before+5 }, 20*time.Second, time.Millisecond)
	require.Len(t, out.Values(), 20)
	busy.Store(false)
	feed(20)
	require.Eventually(t, answered, 20*time.Second, time.Millisecond)
	require.Equal(t, want, out.Values())
	r.Stop()
}

func TestConfigFromYAML(t *testing.T) {
	t.Parallel()
	var got lookup.Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
url: https://sites.example.com/sites/{key}
header: {X-Api-Key: hunter2}
token: hunter3
tls: {ca_file: ca.pem}
parallel: 4
max_body: 1000
`), &got, yaml.Strict()))
	require.Equal(t, lookup.Config{
		URL: "https://sites.example.com/sites/{key}", Header: map[string]lookup.Secret{"X-Api-Key": "hunter2"}, Token: "hunter3",
		TLS: lookup.TLS{CAFile: "ca.pem"}, Parallel: 4, MaxBody: 1000,
	}, got)
	require.NoError(t, got.Validate())
	text, err := yaml.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", got, got, got), "hunter")
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	good := lookup.Config{URL: "http://sites.example.com/{key}"}
	for want, change := range map[string]func(*lookup.Config){
		"url is no http or https address": func(c *lookup.Config) { c.URL = "registry/{key}" },
		"url holds a user":                func(c *lookup.Config) { c.URL = "http://mill:hunter2@registry/{key}" },
		"url has {key} in its host":       func(c *lookup.Config) { c.URL = "http://{key}.registry/" },
		"url has no {key}":                func(c *lookup.Config) { c.URL = "http://sites.example.com/" },
		"parallel, max_body or":           func(c *lookup.Config) { c.Parallel = -1 },
		"token stands beside a header":    func(c *lookup.Config) { c.Token, c.Header = "t", map[string]lookup.Secret{"Authorization": "x"} },
		"set both or none":                func(c *lookup.Config) { c.TLS.KeyFile = "key.pem" },
	} {
		cfg := good
		change(&cfg)
		_, err := lookup.Get[string](cfg, codec.JSON[site]())
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err := lookup.Get[string, site](good, nil)
	require.ErrorContains(t, err, "the codec is nil")
	_, err = lookup.Get[float64](good, codec.JSON[site]())
	require.ErrorContains(t, err, "let the key function give a string")
	_, err = lookup.Post[string, site](good)
	require.ErrorContains(t, err, "url has {key}")
	_, err = lookup.Post[float64, site](good)
	require.ErrorContains(t, err, "let the key function give a string")
	_, err = lookup.PostFunc[string, site](lookup.Config{URL: "http://sites.example"}, nil, nil)
	require.ErrorContains(t, err, "give both")
}
