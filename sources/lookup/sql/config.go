package sql

import (
	"context"
	"database/sql"
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

// The dialects.
const (
	// MySQL is that of MySQL and MariaDB.
	MySQL = "mysql"
	// Postgres is that of PostgreSQL.
	Postgres = "postgres"
)

// Config says which database to ask and what.
type Config struct {
	// Dialect is mysql (MariaDB too) or postgres. Required.
	Dialect string `yaml:"dialect"`
	// Address is host:port of the server. Required, as Database and User are, unless DB is set.
	Address string `yaml:"address"`
	// Database is its name there.
	Database string `yaml:"database"`
	// User is who logs in, by Password.
	User     string `yaml:"user"`
	Password Secret `yaml:"password"`
	// Credentials, when set, is asked for user and password at each new connection instead.
	Credentials func(context.Context) (user string, password Secret, err error) `yaml:"-"`
	// TLS encrypts the connection. Defaults to none.
	TLS TLS `yaml:"tls"`
	// DB is used instead of the settings above, but for Dialect, and stays the caller's to close. Defaults to none.
	DB *sql.DB `yaml:"-"`

	// Table holds the values, one row per key; with a schema as schema.table. Key is the column of the key; it should have an index. The
	// other columns are those of the value type.
	Table string `yaml:"table"`
	Key   string `yaml:"key"`
	// Query is asked instead of Table and Key. It gives the key first, then the columns of the value, and has {keys} where the keys
	// stand: WHERE device IN ({keys}) in MySQL, WHERE device = ANY({keys}) in PostgreSQL.
	Query string `yaml:"query"`

	// MaxConns is how many connections there are at most; further calls wait for one. Defaults to 8.
	MaxConns int `yaml:"max_conns"`
	// ConnLifetime is after what time a connection is made anew, so that a moved server is found. Defaults to 30 m.
	ConnLifetime time.Duration `yaml:"conn_lifetime"`
	// ConnectTimeout bounds the making of a connection. Defaults to 5 s.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// StatementTimeout is after what time the server itself ends a query, so that none goes on there when Enrich has given up. Below 0
	// it is left to the server. Defaults to 10 s.
	StatementTimeout time.Duration `yaml:"statement_timeout"`
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.ConnLifetime == 0 {
		c.ConnLifetime = 30 * time.Minute
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 10 * time.Second
	}
	return c
}

// Validate lists what is wrong, all at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dialect != MySQL && c.Dialect != Postgres {
		bad("dialect is %q: set it to mysql or postgres", c.Dialect)
	}
	if c.DB == nil {
		if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
			bad("address is %q: set it to host:port", c.Address)
		}
		if c.Database == "" {
			bad("database is empty: name it")
		}
		if c.User == "" && c.Credentials == nil {
			bad("user is empty: name one")
		}
	}
	switch {
	case c.Query == "" && (c.Table == "" || c.Key == ""):
		bad("table or key is empty: name both, or give a query")
	case c.Query != "" && (c.Table != "" || c.Key != ""):
		bad("query stands beside table or key: give one or the other")
	case c.Query != "" && strings.Count(c.Query, placeholder) != 1:
		bad("the query must have %s once, where the keys stand", placeholder)
	}
	if c.MaxConns < 0 || c.ConnLifetime < 0 || c.ConnectTimeout < 0 {
		bad("max_conns, conn_lifetime or connect_timeout is negative: leave it 0 for the default")
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
	where := c.Table
	if where == "" {
		where = "a query"
	}
	if c.DB == nil {
		where += " at " + c.Address
	}
	return fmt.Errorf("%s lookup in %s: %w%s", c.Dialect, where, err, cure(err))
}
