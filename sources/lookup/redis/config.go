package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/sources/lookup/internal/link"
)

// Secret is a password. It prints, logs and encodes as "[redacted]".
type Secret = link.Secret

// TLS says how the connection is encrypted.
type TLS = link.TLS

// Config says which Redis to ask.
type Config struct {
	// Addresses are host:port of the server; of several nodes of a cluster; or, with Master, of the sentinels.
	Addresses []string `yaml:"addresses"`
	// Cluster says that the server is a node of a cluster, where Addresses has one only. Defaults to false.
	Cluster bool `yaml:"cluster"`
	// Master is the name of the master that the sentinels watch. Defaults to none: there are no sentinels.
	Master string `yaml:"master"`
	// DB is the number of the database; a cluster has 0 only. Defaults to 0.
	DB int `yaml:"db"`
	// User and Password log in. Default to none.
	User     string `yaml:"user"`
	Password Secret `yaml:"password"`
	// Credentials, when set, is asked for user and password at each new connection instead.
	Credentials func(context.Context) (user string, password Secret, err error) `yaml:"-"`
	// TLS encrypts the connection. Defaults to none.
	TLS TLS `yaml:"tls"`
	// Prefix stands before each key: the key a with prefix site: is the Redis key site:a. Defaults to none.
	Prefix string `yaml:"prefix"`
	// MaxConns is how many connections there are at most, to each node of a cluster; further calls wait for one. Defaults to 8.
	MaxConns int `yaml:"max_conns"`
	// ConnectTimeout bounds the making of a connection. Defaults to 5 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	return c
}

// clustered tells whether keys may live on different nodes.
func (c Config) clustered() bool { return c.Cluster || c.Master == "" && len(c.Addresses) > 1 }

// Validate lists what is wrong, all at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Addresses) == 0 {
		bad("addresses is empty: give host:port")
	}
	for _, a := range c.Addresses {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			bad("address %q: give host:port", a)
		}
	}
	switch {
	case c.Cluster && c.Master != "":
		bad("cluster and master are both set: a cluster has no sentinels, take one off")
	case c.clustered() && c.DB != 0:
		bad("db is %d: a cluster has database 0 only", c.DB)
	case c.DB < 0:
		bad("db is negative: give the number of a database")
	}
	if c.MaxConns < 0 || c.ConnectTimeout < 0 {
		bad("max_conns or connect_timeout is negative: leave it 0 for the default")
	}
	if c.TLS.Needless() {
		bad("tls has settings but is not enabled: set tls.enabled, or take them off")
	}
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return c.wrap(errors.Join(errs...))
}

// wrap says where an error was.
func (c Config) wrap(err error) error {
	return fmt.Errorf("redis lookup at %s: %w%s", strings.Join(c.Addresses, ","), err, cure(err))
}

// cure says what to do about an error that does not go away by itself.
func cure(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"):
		return ": check user and password; it is tried again meanwhile"
	case strings.Contains(text, "NOPERM"):
		return ": allow the user the command and the keys; it is tried again meanwhile"
	case strings.Contains(text, "WRONGTYPE"):
		return ": the key holds another type: use Values for strings, Hashes for hashes, or another prefix"
	case strings.Contains(text, "CROSSSLOT"), strings.HasPrefix(text, "MOVED"):
		return ": the server is part of a cluster: set cluster"
	}
	return ""
}
