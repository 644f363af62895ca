package sql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

func open(cfg Config) (*sql.DB, error) {
	if cfg.Dialect == MySQL {
		return openMySQL(cfg)
	}
	return openPostgres(cfg)
}

// login returns the user and password of a new connection.
func (c Config) login(ctx context.Context) (user string, password Secret, err error) {
	if c.Credentials == nil {
		return c.User, c.Password, nil
	}
	if user, password, err = c.Credentials(ctx); err != nil {
		return "", "", fmt.Errorf("credentials: %w", err)
	}
	return user, password, nil
}

func openMySQL(cfg Config) (*sql.DB, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	m := mysql.NewConfig()
	m.Net, m.Addr, m.DBName = "tcp", cfg.Address, cfg.Database
	m.Timeout = cfg.ConnectTimeout
	m.ParseTime = true
	m.InterpolateParams = true // one round trip a query instead of three
	m.Logger = &mysql.NopLogger{}
	if err := m.Apply(mysql.BeforeConnect(func(ctx context.Context, m *mysql.Config) error {
		user, password, err := cfg.login(ctx)
		if err != nil {
			return err
		}
		m.User, m.Passwd = user, password.Reveal()
		if cfg.TLS.Enabled {
			m.TLS, err = cfg.TLS.Load(host)
		}
		return err
	})); err != nil {
		return nil, err
	}
	c, err := mysql.NewConnector(m)
	if err != nil {
		return nil, err
	}
	if cfg.StatementTimeout > 0 {
		c = limited{c, cfg}
	}
	return sql.OpenDB(c), nil
}

// limited tells each new connection how long its queries may take.
type limited struct {
	driver.Connector
	cfg Config
}

func (l limited) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := l.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	exec, ok := conn.(driver.ExecerContext)
	if !ok {
		return conn, nil
	}
	// MariaDB has one variable for it, MySQL another.
	const unknownVariable = 1193
	_, err = exec.ExecContext(ctx, fmt.Sprintf("SET SESSION max_statement_time = %g", l.cfg.StatementTimeout.Seconds()), nil)
	if me := (*mysql.MySQLError)(nil); errors.As(err, &me) && me.Number == unknownVariable {
		_, err = exec.ExecContext(ctx, fmt.Sprintf("SET SESSION max_execution_time = %d", l.cfg.StatementTimeout.Milliseconds()), nil)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func openPostgres(cfg Config) (*sql.DB, error) {
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address: port %q is no number: set it to host:port", port)
	}
	// A configuration must come from text; what it takes from the environment is replaced.
	p, err := pgx.ParseConfig("host=127.0.0.1 sslmode=disable passfile='' user=none password=none")
	if err != nil {
		return nil, err
	}
	p.Host, p.Port, p.Database, p.Fallbacks = host, uint16(n), cfg.Database, nil
	p.ConnectTimeout = cfg.ConnectTimeout
	p.RuntimeParams = map[string]string{"application_name": "millrace"}
	if cfg.StatementTimeout > 0 {
		p.RuntimeParams["statement_timeout"] = strconv.FormatInt(cfg.StatementTimeout.Milliseconds(), 10)
	}
	return stdlib.OpenDB(*p, stdlib.OptionBeforeConnect(func(ctx context.Context, p *pgx.ConnConfig) error {
		user, password, err := cfg.login(ctx)
		if err != nil {
			return err
		}
		p.User, p.Password = user, password.Reveal()
		if cfg.TLS.Enabled {
			p.TLSConfig, err = cfg.TLS.Load(host)
		}
		return err
	})), nil
}
