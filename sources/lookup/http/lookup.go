// Package http looks values up in a service over HTTP, for operators.Enrich.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sources/lookup/internal/link"
)

// Lookup finds values by key. It is safe for concurrent use; Close it when no topology uses it any more.
//
// Answers: 200 holds the value; 204, 404 and 410 say that there is none. Errors: 400, 413, 414, 422, a body that is too long or cannot be
// decoded are permanent, and so the record's. All else is transient, a refused token (401, 403) and a redirect too, since no record is to
// blame: it is tried until somebody mends it, or answered by Enrich's Fallback; after 429 and 503 not before the Retry-After that the
// service asked for, up to a minute. Redirects are not followed.
type Lookup[K comparable, V any] struct {
	cfg    Config
	client *http.Client
	lookup func(ctx context.Context, keys []K, vals []V, found []bool) error
}

// Get asks for one key a request, by GET, Config.Parallel of them at once. c decodes the body. Keys are strings, integers, or types with
// a method MarshalText.
func Get[K comparable, V any](cfg Config, c codec.Codec[V]) (*Lookup[K, V], error) {
	l, err := newLookup[K, V](cfg)
	if err != nil {
		return nil, err
	}
	text, err := link.KeyText[K]()
	switch {
	case err != nil:
		return nil, l.cfg.wrap(err)
	case c == nil:
		return nil, l.cfg.wrap(errors.New("the codec is nil: give the one that the service answers with"))
	case !strings.Contains(cfg.URL, keyMark):
		return nil, l.cfg.wrap(errors.New("url has no {key}: put it where the key stands"))
	}
	path, query, _ := strings.Cut(cfg.URL, "?")
	one := func(ctx context.Context, k K, v *V) (bool, error) {
		key, err := text(k)
		if err != nil {
			return false, err
		}
		at := strings.ReplaceAll(path, keyMark, url.PathEscape(key))
		if query != "" {
			at += "?" + strings.ReplaceAll(query, keyMark, url.QueryEscape(key))
		}
		body, err := l.do(ctx, http.MethodGet, at, nil, true)
		if err != nil || body == nil {
			return false, err
		}
		if err := c.Decode(body, v); err != nil {
			return false, fmt.Errorf("key %s: the answer cannot be decoded as %s: %w", key, c.ID(), err)
		}
		return true, nil
	}
	l.lookup = func(ctx context.Context, keys []K, vals []V, found []bool) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(l.cfg.Parallel)
		for i, k := range keys {
			g.Go(func() (err error) {
				defer func() { // of the codec: on a goroutine of ours it would end the process
					if p := recover(); p != nil {
						err = fmt.Errorf("%w: %v", flow.ErrPanic, p)
					}
				}()
				found[i], err = one(ctx, k, &vals[i])
				return err
			})
		}
		return g.Wait()
	}
	return l, nil
}

// Post asks for all keys of a batch in one request, by POST. The body is a JSON array of the keys; the answer is one JSON object with the
// values by key, in which missing keys are left out or null. Keys are strings, integers, or types with a method MarshalText.
func Post[K comparable, V any](cfg Config) (*Lookup[K, V], error) {
	text, err := link.KeyText[K]()
	if err != nil {
		return nil, cfg.wrap(err)
	}
	return PostFunc(cfg, func(keys []K) ([]byte, error) { return json.Marshal(keys) },
		func(body []byte, keys []K, vals []V, found []bool) error {
			var byKey map[string]*V
			if err := json.Unmarshal(body, &byKey); err != nil {
				return err
			}
			for i, k := range keys {
				key, err := text(k)
				if err != nil {
					return err
				}
				if v := byKey[key]; v != nil {
					vals[i], found[i] = *v, true
				}
			}
			return nil
		})
}

// PostFunc is Post for services that speak otherwise: request makes the body, answer fills vals and found from the service's, which it
// must not keep. Give the content type in Config.Header if it is not JSON. An error of either is permanent.
func PostFunc[K comparable, V any](cfg Config, request func(keys []K) ([]byte, error),
	answer func(body []byte, keys []K, vals []V, found []bool) error) (*Lookup[K, V], error) {
	l, err := newLookup[K, V](cfg)
	switch {
	case err != nil:
		return nil, err
	case request == nil || answer == nil:
		return nil, l.cfg.wrap(errors.New("the request or the answer function is nil: give both"))
	case strings.Contains(cfg.URL, keyMark):
		return nil, l.cfg.wrap(errors.New("url has {key}: a request for many keys has them in its body"))
	}
	l.lookup = func(ctx context.Context, keys []K, vals []V, found []bool) error {
		body, err := request(keys)
		if err != nil {
			return fmt.Errorf("the request for %d keys: %w", len(keys), err)
		}
		got, err := l.do(ctx, http.MethodPost, cfg.URL, body, false)
		if err != nil {
			return err
		}
		if err := answer(got, keys, vals, found); err != nil {
			return fmt.Errorf("the answer for %d keys: %w", len(keys), err)
		}
		return nil
	}
	return l, nil
}

func newLookup[K comparable, V any](cfg Config) (*Lookup[K, V], error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Lookup[K, V]{cfg: cfg, client: cfg.client()}, nil
}

// Close closes the connections that are not in use.
func (l *Lookup[K, V]) Close() error {
	l.client.CloseIdleConnections()
	return nil
}

// Lookup asks for keys.
func (l *Lookup[K, V]) Lookup(ctx context.Context, keys []K, vals []V, found []bool) error {
	err := l.lookup(ctx, keys, vals, found)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return l.cfg.wrap(err)
}

// do makes a request. The body is nil when there is no value.
func (l *Lookup[K, V]) do(ctx context.Context, method, at string, body []byte, mayMiss bool) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL with this key is none: let the key function give another")
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range l.cfg.Header {
		req.Header.Set(name, value.Reveal())
	}
	token := l.cfg.Token
	if l.cfg.Credentials != nil {
		if token, err = l.cfg.Credentials(ctx); err != nil {
			return nil, flow.Transient(fmt.Errorf("credentials: %w", err))
		}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	resp, err := l.client.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) { // it holds the URL with its query
			err = ue.Err
		}
		return nil, flow.Transient(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(io.LimitReader(resp.Body, l.cfg.MaxBody+1))
	switch {
	case err != nil:
		return nil, flow.Transient(fmt.Errorf("the answer broke off: %w", err))
	case int64(len(got)) > l.cfg.MaxBody:
		return nil, fmt.Errorf("the answer is longer than %d bytes: raise max_body", l.cfg.MaxBody)
	case resp.StatusCode == http.StatusOK:
		return append([]byte{}, got...), nil
	case mayMiss && (resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone):
		return nil, nil
	}
	return nil, refusal(resp, got)
}

// refusal makes an error of an answer that holds no value.
func refusal(resp *http.Response, body []byte) error {
	const most = 200
	err := fmt.Errorf("the service answered %s: %q", resp.Status, strings.TrimSpace(string(body[:min(len(body), most)])))
	switch code := resp.StatusCode; {
	case code == http.StatusBadRequest, code == http.StatusUnprocessableEntity, code == http.StatusRequestEntityTooLarge,
		code == http.StatusRequestURITooLong:
		return err
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		err = fmt.Errorf("%w: check the token or header; it is tried again meanwhile", err)
	case code >= 300 && code < 400:
		err = fmt.Errorf("the service answered %s: it redirects to %s, which is not followed: set url to where it leads",
			resp.Status, withoutQuery(resp.Header.Get("Location")))
	}
	if d, ok := retryAfter(resp.Header); ok {
		return flow.Transient(&LaterError{err, d})
	}
	return flow.Transient(err)
}

func withoutQuery(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return "a bad address"
	}
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	return u.String()
}

// retryAfter reads the header of that name: seconds, or a date, which is judged by the service's own clock.
func retryAfter(h http.Header) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, false
	}
	return max(at.Sub(now), 0), true
}

// LaterError is a refusal of a service that said when to come again.
type LaterError struct {
	Err   error
	After time.Duration
}

// Error is that of the refusal.
func (e *LaterError) Error() string {
	return fmt.Sprintf("%v; it asks to come again after %v", e.Err, e.After)
}

// Unwrap is the refusal.
func (e *LaterError) Unwrap() error { return e.Err }

// RetryAfter tells Enrich when to try again.
func (e *LaterError) RetryAfter() time.Duration { return e.After }
