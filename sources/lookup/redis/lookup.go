// Package redis looks values up in Redis, for operators.Enrich.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sources/lookup/internal/columns"
	"github.com/millrace-stream/millrace/sources/lookup/internal/link"
)

// Lookup finds values by key: all keys of a batch in one round trip to each server. It is safe for concurrent use, connects when it is
// first asked and again by itself; Close it when no topology uses it any more.
//
// Keys are strings, integers, or types with a method MarshalText. The client writes each connection that fails to the standard error;
// redis.SetLogger of go-redis, which holds for the whole process, changes that.
//
// Errors: a value that cannot be decoded or is of another Redis type is permanent, and so the record's. All else is transient, a refused
// password too, since no record is to blame: it is tried until somebody mends it, or answered by Enrich's Fallback.
type Lookup[K comparable, V any] struct {
	cfg    Config
	client redis.UniversalClient
	name   func(K) (string, error)
	// ask puts one key's command into the pipeline.
	ask func(ctx context.Context, p redis.Pipeliner, name string) redis.Cmder
	// take reads its answer.
	take func(cmd redis.Cmder, name string, v *V) (found bool, err error)
	// decode decodes a string; nil where MGET cannot be used.
	decode func(name, text string, v *V) error
}

// Values looks up strings, which c decodes: by MGET, and by GET in a cluster.
func Values[K comparable, V any](cfg Config, c codec.Codec[V]) (*Lookup[K, V], error) {
	l, err := newLookup[K, V](cfg)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, l.cfg.wrap(errors.New("the codec is nil: give the one that the values were written with"))
	}
	decode := func(name, text string, v *V) error {
		if err := c.Decode([]byte(text), v); err != nil {
			return permanent{fmt.Errorf("the value of key %s cannot be decoded as %s: %w", name, c.ID(), err)}
		}
		return nil
	}
	l.ask = func(ctx context.Context, p redis.Pipeliner, name string) redis.Cmder { return p.Get(ctx, name) }
	l.take = func(cmd redis.Cmder, name string, v *V) (bool, error) {
		text, err := cmd.(*redis.StringCmd).Result()
		if errors.Is(err, redis.Nil) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, decode(name, text, v)
	}
	if !l.cfg.clustered() { // one server has all keys
		l.decode = decode
	}
	return l, nil
}

// Hashes looks up hashes (HGETALL). V is a struct, whose fields take those of the hash by the tag redis or their names in snake case
// (DeviceID is device_id). What the hash does not have stays zero, what V does not have is left out.
func Hashes[K comparable, V any](cfg Config) (*Lookup[K, V], error) {
	l, err := newLookup[K, V](cfg)
	if err != nil {
		return nil, err
	}
	plan, err := columns.Of[V]("redis")
	if err == nil && plan.Single() {
		err = fmt.Errorf("a hash cannot be a %v: use a struct", reflect.TypeFor[V]())
	}
	if err == nil {
		err = plan.Textual(reflect.TypeFor[V]())
	}
	if err != nil {
		return nil, l.cfg.wrap(err)
	}
	l.ask = func(ctx context.Context, p redis.Pipeliner, name string) redis.Cmder { return p.HGetAll(ctx, name) }
	l.take = func(cmd redis.Cmder, name string, v *V) (bool, error) {
		hash, err := cmd.(*redis.MapStringStringCmd).Result()
		if err != nil || len(hash) == 0 {
			return false, err
		}
		if err := plan.SetFields(v, hash); err != nil {
			return false, permanent{fmt.Errorf("the hash of key %s: %w", name, err)}
		}
		return true, nil
	}
	return l, nil
}

func newLookup[K comparable, V any](cfg Config) (*Lookup[K, V], error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	name, err := link.KeyText[K]()
	if err != nil {
		return nil, cfg.wrap(err)
	}
	return &Lookup[K, V]{cfg: cfg, client: connect(cfg), name: name}, nil
}

func connect(cfg Config) redis.UniversalClient {
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout}
	o := &redis.UniversalOptions{
		Addrs: cfg.Addresses, MasterName: cfg.Master, IsClusterMode: cfg.Cluster, DB: cfg.DB,
		Username: cfg.User, Password: cfg.Password.Reveal(),
		PoolSize: cfg.MaxConns, MaxActiveConns: cfg.MaxConns, DialTimeout: cfg.ConnectTimeout,
		// Enrich tries again and bounds each call; the client does neither.
		MaxRetries: -1, DialerRetries: 1, ReadTimeout: -1, WriteTimeout: -1, ContextTimeoutEnabled: true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			if !cfg.TLS.Enabled {
				return dialer.DialContext(ctx, network, address)
			}
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			c, err := cfg.TLS.Load(host)
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{NetDialer: dialer, Config: c}).DialContext(ctx, network, address)
		},
	}
	if cfg.Credentials != nil {
		o.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			user, password, err := cfg.Credentials(ctx)
			return user, password.Reveal(), err
		}
	}
	return redis.NewUniversalClient(o)
}

// Close closes the connections.
func (l *Lookup[K, V]) Close() error { return l.client.Close() }

// Lookup asks for all keys at once.
func (l *Lookup[K, V]) Lookup(ctx context.Context, keys []K, vals []V, found []bool) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		name, err := l.name(k)
		if err != nil {
			return l.cfg.wrap(err)
		}
		names[i] = l.cfg.Prefix + name
	}
	var err error
	if l.decode != nil {
		err = l.mget(ctx, names, vals, found)
	} else {
		err = l.pipeline(ctx, names, vals, found)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	told := l.cfg.wrap(err)
	if errors.As(err, new(permanent)) {
		return told
	}
	return flow.Transient(told)
}

// mget asks by one command. It says of keys with a value of another type that they are missing; so missing keys are asked for again by
// one command each, which tells.
func (l *Lookup[K, V]) mget(ctx context.Context, names []string, vals []V, found []bool) error {
	texts, err := l.client.MGet(ctx, names...).Result()
	if err != nil {
		return err
	}
	if len(texts) != len(names) {
		return fmt.Errorf("%d keys were answered by %d values", len(names), len(texts))
	}
	var missing []int
	for i, text := range texts {
		s, ok := text.(string)
		if !ok {
			missing = append(missing, i)
			continue
		}
		found[i] = true
		if err := l.decode(names[i], s, &vals[i]); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	again, v, is := make([]string, len(missing)), make([]V, len(missing)), make([]bool, len(missing))
	for j, i := range missing {
		again[j] = names[i]
	}
	if err := l.pipeline(ctx, again, v, is); err != nil {
		return err
	}
	for j, i := range missing {
		vals[i], found[i] = v[j], is[j]
	}
	return nil
}

// pipeline asks by one command for each key.
func (l *Lookup[K, V]) pipeline(ctx context.Context, names []string, vals []V, found []bool) error {
	cmds := make([]redis.Cmder, len(names))
	p := l.client.Pipeline()
	for i, name := range names {
		cmds[i] = l.ask(ctx, p, name)
		// A command whose connection could not be made is left as it is, and would look like an empty answer.
		cmds[i].SetErr(errUnanswered)
	}
	_, failed := p.Exec(ctx) // of one command, or of all
	for i, cmd := range cmds {
		var err error
		found[i], err = l.take(cmd, names[i], &vals[i])
		switch {
		case err == nil:
		case errors.Is(err, errUnanswered) && failed != nil:
			return failed
		case strings.HasPrefix(err.Error(), "WRONGTYPE"):
			return permanent{fmt.Errorf("key %s: %w", names[i], err)}
		default:
			return err
		}
	}
	return nil
}

var errUnanswered = errors.New("the command was not answered")

// permanent is an error of a key's value.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }
