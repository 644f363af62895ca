package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// sendHTTP inserts over HTTP: one block in Native format as the body.
func (s *core) sendHTTP(ctx context.Context, names []string, cols []column, rows int, p *part) error {
	client, err := s.conn.client()
	if err != nil {
		return &notSent{err}
	}
	var body bytes.Buffer
	if err := s.encodeTo(&body, cols, names, rows); err != nil {
		return &misbuilt{err}
	}
	q := url.Values{
		"query":    {s.statement(names)},
		"database": {s.database},
		"query_id": {p.queryID},
	}
	if s.conn.cfg.Compression != NoCompression {
		q.Set("decompress", "1")
	}
	s.settings(p.token, q.Set)
	var errs []error
	for _, addr := range s.conn.cfg.Addr {
		p.addr = addr
		err := s.conn.post(ctx, client, addr, q, body.Bytes())
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" { // nothing was sent: the next address may answer
			errs = append(errs, err)
			continue
		}
		return err
	}
	return &notSent{errors.Join(errs...)}
}

func (c *Conn) post(ctx context.Context, client *http.Client, addr string, q url.Values, body []byte) error {
	u := url.URL{Scheme: "http", Host: addr, Path: "/", RawQuery: q.Encode()}
	if c.tls != nil {
		u.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return &notSent{err}
	}
	req.Header.Set("X-ClickHouse-User", c.cfg.User)
	if c.cfg.Password != "" {
		req.Header.Set("X-ClickHouse-Key", string(c.cfg.Password))
	} else if c.tls != nil && c.cfg.TLS.CertFile != "" {
		req.Header.Set(certificateLogin, "on")
	}
	req.Header.Set("User-Agent", "millrace")
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error // names the whole query: leave it out
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("%s: %w", addr, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s: reading the answer: %w", addr, err)
	}
	return answer(resp, text)
}

// answer tells a server's refusal from a proxy's, and both from success.
func answer(resp *http.Response, text []byte) error {
	msg := strings.TrimSpace(string(text))
	if h := resp.Header.Get("X-ClickHouse-Exception-Code"); h != "" {
		code, err := strconv.Atoi(h)
		if err != nil {
			return fmt.Errorf("HTTP %s: exception code %q: %s", resp.Status, h, msg)
		}
		if _, rest, ok := strings.Cut(msg, "DB::Exception: "); ok {
			msg = rest
		}
		return &ServerError{code, msg}
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %s, not from ClickHouse: %s", resp.Status, msg)
	}
	if strings.Contains(msg, "DB::Exception") { // after the headers went out
		return fmt.Errorf("HTTP 200 with an exception behind it: %s", msg)
	}
	return nil
}
