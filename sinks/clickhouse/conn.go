package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ClickHouse/ch-go"
	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Conn is a ClickHouse server, or several that hold the same tables. It connects when it is first used, may serve any number of
// sinks, and is safe for concurrent use.
type Conn struct {
	cfg Config
	err error
	tls *tls.Config

	mu     sync.Mutex
	closed bool
	db     driver.Conn
	idle   []*nativeClient
	http   *http.Client
	// transport is that of db over HTTP, closed with it.
	transport atomic.Pointer[http.Transport]
}

// New makes a Conn. Nothing is connected and no goroutine runs yet; what is wrong with the configuration is returned by the first use,
// or by Config.Validate.
func New(cfg Config) *Conn {
	err := cfg.Validate()
	cfg.setDefaults()
	c := &Conn{cfg: cfg, err: err}
	if err == nil {
		c.tls, c.err = cfg.TLS.config()
	}
	return c
}

var errClosed = errors.New("clickhouse connection is closed")

// DB is the clickhouse-go connection behind Query and Exec, for whatever they do not offer. It belongs to c.
func (c *Conn) DB() (driver.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if c.closed {
		return nil, errClosed
	}
	if c.db == nil {
		db, err := c.open(c.cfg.Addr)
		if err != nil {
			return nil, err
		}
		c.db = db
	}
	return c.db, nil
}

func (c *Conn) open(addr []string) (driver.Conn, error) {
	protocol := chgo.Native
	if c.cfg.Protocol == HTTP {
		protocol = chgo.HTTP
	}
	o := &chgo.Options{
		Addr:         addr,
		Protocol:     protocol,
		Auth:         chgo.Auth{Database: c.cfg.Database, Username: c.cfg.User, Password: string(c.cfg.Password)},
		TLS:          c.tls,
		DialTimeout:  c.cfg.DialTimeout,
		ReadTimeout:  c.cfg.ReadTimeout,
		MaxOpenConns: 8,
		MaxIdleConns: 2,
	}
	o.TransportFunc = func(t *http.Transport) (http.RoundTripper, error) {
		// clickhouse-go makes a transport for each of its connections and may forget one with an idle connection in it: one for all.
		if !c.transport.CompareAndSwap(nil, t) {
			t = c.transport.Load()
		}
		if c.tls != nil && c.cfg.Password == "" && c.cfg.TLS.CertFile == "" {
			// It takes TLS without a password for a login by certificate, which an account without a password is not.
			return noCertificateLogin{t}, nil
		}
		return t, nil
	}
	db, err := chgo.Open(o)
	if err != nil {
		return nil, fmt.Errorf("clickhouse %s: %w", strings.Join(addr, ","), err)
	}
	return db, nil
}

const certificateLogin = "X-ClickHouse-SSL-Certificate-Auth"

type noCertificateLogin struct{ *http.Transport }

func (n noCertificateLogin) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del(certificateLogin)
	return n.Transport.RoundTrip(r)
}

// Query runs a query and calls scan for each row; scan reads the row by Rows.Scan or Rows.ScanStruct.
func (c *Conn) Query(ctx context.Context, sql string, scan func(rows driver.Rows) error) (err error) {
	db, err := c.DB()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("clickhouse %s: query: %w", c.address(), serverError(err))
		}
	}()
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Exec runs a statement that returns no rows.
func (c *Conn) Exec(ctx context.Context, sql string) error {
	db, err := c.DB()
	if err != nil {
		return err
	}
	if err := db.Exec(ctx, sql); err != nil {
		return fmt.Errorf("clickhouse %s: %w", c.address(), serverError(err))
	}
	return nil
}

// Close closes all connections. A second call does nothing. Sinks that use c must be closed before.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	db, idle, client := c.db, c.idle, c.http
	c.db, c.idle, c.http = nil, nil, nil
	c.mu.Unlock()
	for _, n := range idle {
		_ = n.Close()
	}
	if client != nil {
		client.CloseIdleConnections()
	}
	var err error
	if db != nil {
		err = db.Close()
	}
	if t := c.transport.Load(); t != nil {
		t.CloseIdleConnections()
	}
	return err
}

func (c *Conn) address() string { return strings.Join(c.cfg.Addr, ",") }

// nativeClient is one connection of ch-go, for inserts.
type nativeClient struct {
	*ch.Client
	addr string
}

// native takes an idle connection that still answers, or dials the first address that does.
func (c *Conn) native(ctx context.Context) (*nativeClient, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, errClosed
		}
		var n *nativeClient
		if k := len(c.idle); k > 0 {
			n, c.idle = c.idle[k-1], c.idle[:k-1]
		}
		c.mu.Unlock()
		if n == nil {
			break
		}
		// A connection that died while it was idle must not look like an insert with an unknown outcome.
		pctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
		err := n.Ping(pctx)
		cancel()
		if err == nil {
			return n, nil
		}
		_ = n.Close()
	}
	var errs []error
	for _, addr := range c.cfg.Addr {
		n, err := c.dial(ctx, addr)
		if err == nil {
			return n, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, serverError(err)))
	}
	return nil, errors.Join(errs...)
}

// release keeps a connection for the next insert.
func (c *Conn) release(n *nativeClient) {
	c.mu.Lock()
	keep := !c.closed && !n.IsClosed() && len(c.idle) < c.cfg.MaxInFlight
	if keep {
		c.idle = append(c.idle, n)
	}
	c.mu.Unlock()
	if !keep {
		_ = n.Close()
	}
}

func (c *Conn) dial(ctx context.Context, addr string) (*nativeClient, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	conn, err := c.dialNet(ctx, addr)
	if err != nil {
		return nil, err
	}
	compression := ch.CompressionLZ4
	switch c.cfg.Compression {
	case ZSTD:
		compression = ch.CompressionZSTD
	case NoCompression:
		compression = ch.CompressionDisabled
	}
	client, err := ch.Connect(ctx, conn, ch.Options{
		Database:         c.cfg.Database,
		User:             c.cfg.User,
		Password:         string(c.cfg.Password),
		Compression:      compression,
		ReadTimeout:      c.cfg.ReadTimeout,
		HandshakeTimeout: c.cfg.DialTimeout,
		ClientName:       "millrace",
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &nativeClient{Client: client, addr: addr}, nil
}

func (c *Conn) dialNet(ctx context.Context, addr string) (net.Conn, error) {
	if c.tls != nil {
		return (&tls.Dialer{Config: c.tls}).DialContext(ctx, "tcp", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// client is the HTTP client of the inserts.
func (c *Conn) client() (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.http == nil {
		c.http = &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: c.cfg.DialTimeout}).DialContext,
				TLSClientConfig:     c.tls,
				TLSHandshakeTimeout: c.cfg.DialTimeout,
				MaxIdleConnsPerHost: c.cfg.MaxInFlight,
				WriteBufferSize:     64 << 10,
			},
			// A redirect would turn the POST into a GET: an empty insert that the server calls a success.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return c.http, nil
}
