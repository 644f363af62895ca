package sql_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sources/lookup/sql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type device string

type place struct {
	Site     string
	Floor    int
	Limit    *float64 `db:"max_temp"`
	Since    time.Time
	Indoor   bool
	internal int
	Skipped  int `db:"-"`
}

// configs are those of the two servers.
func configs(s *services.Set) map[string]sql.Config {
	c := sql.Config{
		Database: services.DatabaseName, User: services.DatabaseUser, Password: services.DatabasePassword,
		Table: "places", Key: "device",
	}
	m, p := c, c
	m.Dialect, m.Address = sql.MySQL, s.MariaDB()
	p.Dialect, p.Address = sql.Postgres, s.PostgreSQL()
	return map[string]sql.Config{"mysql": m, "postgres": p}
}

// each runs a test on both servers, with a table of its own that has rows 0 to n-1.
func each(t *testing.T, n int, test func(t *testing.T, cfg sql.Config, exec func(string, ...any))) {
	t.Parallel()
	s := services.Need(t, services.MariaDB, services.PostgreSQL)
	for name, cfg := range configs(s) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Table = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))
			exec := execOn(t, cfg)
			fill(exec, cfg.Table, n)
			test(t, cfg, exec)
		})
	}
}

func execOn(t *testing.T, cfg sql.Config) func(string, ...any) {
	t.Helper()
	driver, source := "mysql", fmt.Sprintf("%s:%s@tcp(%s)/%s", cfg.User, cfg.Password.Reveal(), cfg.Address, cfg.Database)
	if cfg.Dialect == sql.Postgres {
		driver, source = "pgx", fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", cfg.User, cfg.Password.Reveal(), cfg.Address, cfg.Database)
	}
	return func(text string, args ...any) {
		t.Helper()
		db, err := stdsql.Open(driver, source)
		require.NoError(t, err)
		_, err = db.Exec(text, args...)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
}

func fill(exec func(string, ...any), table string, n int) {
	exec("DROP TABLE IF EXISTS " + table)
	exec("CREATE TABLE " + table + " (device VARCHAR(20) PRIMARY KEY, site VARCHAR(20) NOT NULL, floor INT, max_temp FLOAT, since TIMESTAMP, indoor BOOLEAN, other INT)")
	if n == 0 {
		return
	}
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("('dev-%d', 'site %d', %d, NULL, '2024-05-06 07:08:09', true, 1)", i, i, i)
	}
	exec("INSERT INTO " + table + " VALUES " + strings.Join(rows, ","))
}

func lookup[K comparable, V any](t *testing.T, cfg sql.Config) *sql.Lookup[K, V] {
	t.Helper()
	l, err := sql.New[K, V](cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func ask[K comparable, V any](t *testing.T, l operators.Lookup[K, V], keys ...K) ([]V, []bool, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	vals, found := make([]V, len(keys)), make([]bool, len(keys))
	err := l.Lookup(ctx, keys, vals, found)
	return vals, found, err
}

func TestBatch(t *testing.T) {
	each(t, 300, func(t *testing.T, cfg sql.Config, exec func(string, ...any)) {
		exec("UPDATE " + cfg.Table + " SET max_temp = 30.5, indoor = false WHERE device = 'dev-7'")
		l := lookup[device, place](t, cfg)
		vals, found, err := ask(t, l, "dev-7", "it's none; --", "dev-299", "DEV-8", "dev-9 ")
		require.NoError(t, err)
		require.Equal(t, []bool{true, false, true, false, false}, found, "keys are compared exactly")
		since := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
		limit := 30.5
		require.Equal(t, []place{{"site 7", 7, &limit, since, false, 0, 0}, {}, {"site 299", 299, nil, since, true, 0, 0}, {}, {}}, vals)
		keys := make([]device, 300)
		for i := range keys {
			keys[i] = device(fmt.Sprint("dev-", i))
		}
		_, found, err = ask(t, l, keys...)
		require.NoError(t, err)
		require.NotContains(t, found, false)
	})
}

func TestOneColumnByQuery(t *testing.T) {
	each(t, 3, func(t *testing.T, cfg sql.Config, _ func(string, ...any)) {
		within := map[string]string{"mysql": "IN ({keys})", "postgres": "= ANY({keys})"}[cfg.Dialect]
		cfg.Query = "SELECT floor, site FROM " + cfg.Table + " WHERE floor " + within + " AND floor < 2"
		cfg.Table, cfg.Key = "", ""
		vals, found, err := ask(t, lookup[int16, string](t, cfg), 1, 2, 0)
		require.NoError(t, err)
		require.Equal(t, []string{"site 1", "", "site 0"}, vals)
		require.Equal(t, []bool{true, false, true}, found)
	})
}

func TestRowsThatDoNotFitAreTheirKeysFault(t *testing.T) {
	each(t, 3, func(t *testing.T, cfg sql.Config, exec func(string, ...any)) {
		exec("UPDATE " + cfg.Table + " SET floor = NULL WHERE device = 'dev-1'")
		l := lookup[string, place](t, cfg)
		_, _, err := ask(t, l, "dev-0", "dev-1")
		require.ErrorContains(t, err, "make the field a pointer or sql.Null")
		require.False(t, flow.IsTransient(err))
		_, _, err = ask(t, l, "dev-0")
		require.NoError(t, err)

		twice := cfg
		twice.Key = "site"
		exec("UPDATE " + cfg.Table + " SET site = 'same'")
		_, _, err = ask(t, lookup[string, struct{ Indoor bool }](t, twice), "same")
		require.ErrorContains(t, err, "key same has several rows")
		require.False(t, flow.IsTransient(err))
	})
}

func TestKeysThatTheColumnDoesNotTake(t *testing.T) {
	each(t, 1, func(t *testing.T, cfg sql.Config, _ func(string, ...any)) {
		if cfg.Dialect == sql.MySQL { // it compares strings with numbers somehow
			return
		}
		cfg.Query, cfg.Table, cfg.Key = "SELECT device, site FROM "+cfg.Table+" WHERE floor = ANY({keys}::text[]::int[])", "", ""
		_, _, err := ask(t, lookup[string, string](t, cfg), "seven")
		require.ErrorContains(t, err, "invalid input syntax for type integer")
		require.False(t, flow.IsTransient(err))
	})
}

// TestWhatNoRecordIsToBlameForIsTransient: a wrong name or password is tried until somebody mends it.
func TestWhatNoRecordIsToBlameForIsTransient(t *testing.T) {
	each(t, 1, func(t *testing.T, cfg sql.Config, exec func(string, ...any)) {
		for _, c := range []struct {
			change func(*sql.Config)
			want   string
		}{
			{func(c *sql.Config) { c.Password = "wrong-one" }, "check user and password"},
			{func(c *sql.Config) { c.Table += "_none" }, "check the names of database, table and columns"},
			{func(c *sql.Config) { c.Database = "nowhere" }, "check the names of database, table and columns"},
			{func(c *sql.Config) { c.Key = "gadget" }, "check the names of database, table and columns"},
			{func(c *sql.Config) { c.Address = "127.0.0.1:1" }, "connection refused"},
			{func(c *sql.Config) {
				c.Credentials = func(context.Context) (string, sql.Secret, error) { return "", "", errors.New("vault sealed") }
			}, "vault sealed"},
			{func(c *sql.Config) { c.TLS = sql.TLS{Enabled: true, CAFile: "none.pem"} }, "tls.ca_file"},
		} {
			bad := cfg
			c.change(&bad)
			_, _, err := ask(t, lookup[string, place](t, bad), "dev-0")
			require.ErrorContains(t, err, c.want)
			require.True(t, flow.IsTransient(err), err)
			require.NotContains(t, err.Error(), "wrong-one")
		}
		// A table that changes under a running lookup.
		l := lookup[string, place](t, cfg)
		_, _, err := ask(t, l, "dev-0")
		require.NoError(t, err)
		exec("ALTER TABLE " + cfg.Table + " DROP COLUMN floor")
		_, _, err = ask(t, l, "dev-0")
		require.True(t, flow.IsTransient(err), err)
		fill(exec, cfg.Table, 1)
		require.Eventually(t, func() bool { _, _, err := ask(t, l, "dev-0"); return err == nil }, 10*time.Second, 10*time.Millisecond)

		bad := cfg
		bad.Query, bad.Table, bad.Key = "SELECT device, site, other FROM "+cfg.Table+" WHERE device = {keys}", "", ""
		if cfg.Dialect == sql.Postgres {
			bad.Query = strings.Replace(bad.Query, "{keys}", "ANY({keys})", 1)
		}
		_, _, err = ask(t, lookup[string, struct{ Site string }](t, bad), "dev-0")
		require.ErrorContains(t, err, `no field takes column "other"`)
		_, _, err = ask(t, lookup[string, struct{ Site, Other, More string }](t, bad), "dev-0")
		require.ErrorContains(t, err, `field More has no column "more"`)
	})
}

func TestTLSAndCredentials(t *testing.T) {
	t.Parallel()
	s := services.Need(t, services.MariaDB, services.PostgreSQL)
	ciphers := map[string]string{
		"mysql":    "SELECT 1, VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher' AND 1 IN ({keys})",
		"postgres": "SELECT 1, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND 1 = ANY({keys})",
	}
	for name, cfg := range configs(s) {
		cert := s.Certificate(map[string]string{"mysql": services.MariaDB, "postgres": services.PostgreSQL}[name])
		cfg.Query, cfg.Table, cfg.Key = ciphers[name], "", ""
		cfg.TLS = sql.TLS{Enabled: true, CAFile: cert}
		cfg.User, cfg.Password = "", ""
		cfg.Credentials = func(context.Context) (string, sql.Secret, error) {
			return services.DatabaseUser, services.DatabasePassword, nil
		}
		vals, _, err := ask(t, lookup[int, string](t, cfg), 1)
		require.NoError(t, err, name)
		require.NotEmpty(t, vals[0], name)

		cfg.TLS.ServerName = "elsewhere"
		_, _, err = ask(t, lookup[int, string](t, cfg), 1)
		require.ErrorContains(t, err, "elsewhere", name)
		cfg.TLS = sql.TLS{Enabled: true}
		_, _, err = ask(t, lookup[int, string](t, cfg), 1)
		require.ErrorContains(t, err, "certificate", name)
		require.True(t, flow.IsTransient(err))
	}
}

func TestTimeouts(t *testing.T) {
	each(t, 1, func(t *testing.T, cfg sql.Config, _ func(string, ...any)) {
		table := cfg.Table
		cfg.Query, cfg.Table, cfg.Key = map[string]string{
			"mysql":    "SELECT device, SLEEP(20) FROM " + table + " WHERE device IN ({keys})",
			"postgres": "SELECT device, pg_sleep(20)::text FROM " + table + " WHERE device = ANY({keys})",
		}[cfg.Dialect], "", ""
		// The server gives up by itself.
		cfg.StatementTimeout = 50 * time.Millisecond
		_, _, err := ask(t, lookup[string, string](t, cfg), "dev-0")
		require.ErrorContains(t, err, "raise statement_timeout")
		require.True(t, flow.IsTransient(err))
		// The caller gives up.
		cfg.StatementTimeout = -1
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err = lookup[string, string](t, cfg).Lookup(ctx, []string{"dev-0"}, make([]string, 1), make([]bool, 1))
		require.Error(t, err)
		require.Error(t, ctx.Err())
	})
}

func TestOwnDB(t *testing.T) {
	each(t, 1, func(t *testing.T, cfg sql.Config, _ func(string, ...any)) {
		if cfg.Dialect != sql.Postgres {
			return
		}
		db, err := stdsql.Open("pgx", fmt.Sprintf("postgres://%s:%s@%s/%s", cfg.User, cfg.Password.Reveal(), cfg.Address, cfg.Database))
		require.NoError(t, err)
		l, err := sql.New[string, place](sql.Config{Dialect: sql.Postgres, DB: db, Table: "public." + cfg.Table, Key: "device"})
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, found, err := ask(t, l, "dev-0")
		require.NoError(t, err)
		require.True(t, found[0])
		require.NoError(t, db.Close())
	})
}

// TestServerRestart kills the servers while records wait: the topology goes on, and every record comes out, once, in order.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	names := map[string]string{"mysql": services.MariaDB, "postgres": services.PostgreSQL}
	s := services.Isolated(t, services.Options{}, services.MariaDB, services.PostgreSQL)
	for name, cfg := range configs(s) {
		t.Run(name, func(t *testing.T) {
			fill(execOn(t, cfg), cfg.Table, 100)
			l := lookup[string, place](t, cfg)
			src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("restart", opts...)
				flow.To(operators.Enrich(flow.From(top, "in", src), "place", operators.Lookup[string, place](l), func(v string) string { return v },
					func(v string, with place, found bool) (string, error) { return fmt.Sprint(v, with.Site, found), nil },
					operators.LookupBatch(8), operators.CircuitBreaker(3, time.Second)), "out", out)
				return top
			}, src)
			var want []string
			feed := func(from, to int) {
				for i := from; i < to; i++ {
					src.Feed(fmt.Sprint("dev-", i))
					want = append(want, fmt.Sprintf("dev-%dsite %dtrue", i, i))
				}
			}
			answered := func() bool {
				r.Clock.Advance(100 * time.Millisecond)
				r.Epoch()
				return len(out.Values()) == len(want)
			}
			feed(0, 40)
			require.Eventually(t, answered, 30*time.Second, time.Millisecond)
			require.NoError(t, s.Kill(t.Context(), names[name]))
			feed(40, 80)
			require.Eventually(t, func() bool {
				answered()
				for _, c := range r.Running().Counters() {
					if c.Name == "breaker_opened" && c.Value > 0 {
						return true
					}
				}
				return false
			}, 30*time.Second, time.Millisecond)
			require.Len(t, out.Values(), 40)
			require.NoError(t, s.Start(t.Context(), names[name]))
			feed(80, 100)
			require.Eventually(t, answered, 30*time.Second, time.Millisecond)
			require.Equal(t, want, out.Values())
			r.Stop()
		})
	}
}

func TestConfigFromYAML(t *testing.T) {
	t.Parallel()
	var got sql.Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
dialect: postgres
address: db:5432
database: plant
user: mill
password: hunter2
tls: {enabled: true, ca_file: ca.pem}
table: devices
key: id
max_conns: 3
statement_timeout: 2s
`), &got, yaml.Strict()))
	require.Equal(t, sql.Config{
		Dialect: sql.Postgres, Address: "db:5432", Database: "plant", User: "mill", Password: "hunter2",
		TLS: sql.TLS{Enabled: true, CAFile: "ca.pem"}, Table: "devices", Key: "id", MaxConns: 3, StatementTimeout: 2 * time.Second,
	}, got)
	require.NoError(t, got.Validate())
	text, err := yaml.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter2")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", got, got, got), "hunter2")
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	good := sql.Config{Dialect: "mysql", Address: "db:3306", Database: "plant", User: "mill", Table: "t", Key: "k"}
	for want, change := range map[string]func(*sql.Config){
		`dialect is "oracle"`:             func(c *sql.Config) { c.Dialect = "oracle" },
		`address is "db"`:                 func(c *sql.Config) { c.Address = "db" },
		"database is empty":               func(c *sql.Config) { c.Database = "" },
		"user is empty":                   func(c *sql.Config) { c.User = "" },
		"table or key is empty":           func(c *sql.Config) { c.Key = "" },
		"query stands beside table":       func(c *sql.Config) { c.Query = "SELECT {keys}" },
		"must have {keys} once":           func(c *sql.Config) { c.Query, c.Table, c.Key = "SELECT 1", "", "" },
		"max_conns, conn_lifetime":        func(c *sql.Config) { c.MaxConns = -1 },
		"tls has settings but is not ena": func(c *sql.Config) { c.TLS.CAFile = "ca.pem" },
		"set both or none":                func(c *sql.Config) { c.TLS = sql.TLS{Enabled: true, KeyFile: "key.pem"} },
	} {
		cfg := good
		change(&cfg)
		_, err := sql.New[string, place](cfg)
		require.ErrorContains(t, err, want)
	}
	_, err := sql.New[string, string](good)
	require.ErrorContains(t, err, "give a query instead of table and key")
	_, err = sql.New[string, struct{ hidden int }](good)
	require.ErrorContains(t, err, "no exported field")
	_, err = sql.New[string, struct {
		A int `db:"x"`
		B int `db:"x"`
	}](good)
	require.ErrorContains(t, err, `fields A and B`)
}
