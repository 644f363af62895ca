package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/sources/lookup/internal/link"
)

// Secret is a token or password. It prints, logs and encodes as "[redacted]".
type Secret = link.Secret

// TLS says how https connections are made; Enabled has no meaning here, the scheme of the URL decides.
type TLS = link.TLS

// keyMark stands for the key in a URL.
const keyMark = "{key}"

// Config says which service to ask.
type Config struct {
	// URL is asked: for Get with {key} where the key stands, in the path or the query, and is escaped (https://sites.example.com/sites/{key}). Required.
	URL string `yaml:"url"`
	// Header is sent with each request; its values are secret. Defaults to none.
	Header map[string]Secret `yaml:"header"`
	// Token is sent as "Authorization: Bearer TOKEN". Defaults to none.
	Token Secret `yaml:"token"`
	// Credentials, when set, is asked for the token of each request instead; it should keep it as long as it is good.
	Credentials func(context.Context) (token Secret, err error) `yaml:"-"`
	// TLS says whom to trust. Defaults to the system's certificates.
	TLS TLS `yaml:"tls"`
	// Parallel is how many requests a batch of Get makes at once. Defaults to 8.
	Parallel int `yaml:"parallel"`
	// MaxBody is the longest answer that is read, in bytes. A longer one is an error of the key. Defaults to 1 MiB.
	MaxBody int64 `yaml:"max_body"`
	// ConnectTimeout bounds the making of a connection. Defaults to 5 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
}

func (c Config) withDefaults() Config {
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	return c
}

// Validate lists what is wrong, all at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(strings.ReplaceAll(c.URL, keyMark, "key"))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		bad("url is no http or https address: give one such as https://sites.example.com/sites/{key}")
	case u.User != nil:
		bad("url holds a user: put the password into header or token, where it is not shown")
	case strings.Contains(authority(c.URL), keyMark):
		bad("url has {key} in its host: put it into the path or the query")
	}
	if c.Parallel < 0 || c.MaxBody < 0 || c.ConnectTimeout < 0 {
		bad("parallel, max_body or connect_timeout is negative: leave it 0 for the default")
	}
	if c.Token != "" && c.Header["Authorization"] != "" {
		bad("token stands beside a header Authorization: give one or the other")
	}
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return c.wrap(errors.Join(errs...))
}

// authority is what stands between the scheme and the path.
func authority(address string) string {
	_, rest, _ := strings.Cut(address, "//")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i]
	}
	return rest
}

// wrap says where an error was, without what the query of the URL may hold.
func (c Config) wrap(err error) error {
	where, _, _ := strings.Cut(c.URL, "?")
	if u, bad := url.Parse(where); bad == nil && u.User != nil {
		where = u.Redacted()
	}
	return fmt.Errorf("http lookup at %s: %w", where, err)
}

// client makes the client: connections of its own, no redirects, TLS files read for each connection.
func (c Config) client() *http.Client {
	dialer := &net.Dialer{Timeout: c.ConnectTimeout}
	t := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DialContext:       dialer.DialContext,
		ForceAttemptHTTP2: true,
		MaxIdleConns:      4 * c.Parallel, MaxIdleConnsPerHost: 4 * c.Parallel, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout:    c.ConnectTimeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conf, err := c.TLS.Load(host)
		if err != nil {
			return nil, err
		}
		conf.NextProtos = []string{"h2", "http/1.1"}
		return (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, network, address)
	}
	return &http.Client{
		Transport: t,
		// Following could send the headers to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
