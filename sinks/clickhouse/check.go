package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace-stream/millrace/flow"
)

// check compares the table with the row type and takes over the table's column types.
func (s *core) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.conn.cfg.ReadTimeout)
	defer cancel()
	engine, err := s.readEngine(ctx)
	if err != nil {
		return s.unreachable(err)
	}
	if engine == "" {
		return s.noTable(ctx)
	}
	if err := s.readonly(ctx); err != nil {
		return err
	}
	columns, err := s.readColumns(ctx)
	if err != nil {
		return s.unreachable(err)
	}
	var errs []error
	for i, name := range s.names {
		c, ok := columns[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("column %q is missing: ALTER TABLE %s.%s ADD COLUMN %s %s, or take it out of the row type",
				name, quote(s.database), quote(s.table), quote(name), s.types[i]))
			continue
		case c.kind == "MATERIALIZED" || c.kind == "ALIAS":
			errs = append(errs, fmt.Errorf("column %q is %s: the server computes it, take it out of the row type", name, c.kind))
			continue
		}
		if i == len(s.fields) {
			if c.typ != "UInt64" {
				errs = append(errs, fmt.Errorf("version column %q is %s and must be UInt64", name, c.typ))
			}
			continue
		}
		col, err := newColumn(c.typ)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", name, err))
			continue
		}
		if s.fields[i].bind(col) == nil {
			errs = append(errs, s.mismatch(s.fields[i], c.typ))
			continue
		}
		s.types[i] = c.typ
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clickhouse %s: table %s.%s: %w", s.conn.address(), s.database, s.table, err)
	}
	s.setEngine(engine)
	s.mu.Lock()
	s.free = nil // bound to other types
	s.mu.Unlock()
	return nil
}

func (s *core) mismatch(f field, typ string) error {
	return fmt.Errorf("column %q is %s, which cannot hold every value of %s; it would fit %s: change the table or the field",
		f.name, typ, f.goes, f.typ)
}

// readEngine gives the table's engine with its arguments, "" when there is no such table.
func (s *core) readEngine(ctx context.Context) (engine string, err error) {
	sql := fmt.Sprintf("SELECT if(engine_full = '', engine, engine_full) FROM system.tables WHERE database = %s AND name = %s",
		literal(s.database), literal(s.table))
	err = s.conn.Query(ctx, sql, func(rows driver.Rows) error { return rows.Scan(&engine) })
	return engine, err
}

type serverColumn struct{ typ, kind string }

func (s *core) readColumns(ctx context.Context) (map[string]serverColumn, error) {
	out := map[string]serverColumn{}
	sql := fmt.Sprintf("SELECT name, type, default_kind FROM system.columns WHERE database = %s AND table = %s",
		literal(s.database), literal(s.table))
	err := s.conn.Query(ctx, sql, func(rows driver.Rows) error {
		var name string
		var c serverColumn
		if err := rows.Scan(&name, &c.typ, &c.kind); err != nil {
			return err
		}
		out[name] = c
		return nil
	})
	return out, err
}

// readonly finds the account that can look but not write; the server's own answer (164) would read as something that passes.
func (s *core) readonly(ctx context.Context) error {
	var value string
	err := s.conn.Query(ctx, "SELECT value FROM system.settings WHERE name = 'readonly'", func(rows driver.Rows) error { return rows.Scan(&value) })
	if err != nil {
		return s.unreachable(err)
	}
	if value == "1" || value == "2" {
		return s.readonlyError(value)
	}
	return nil
}

func (s *core) readonlyError(value string) error {
	return fmt.Errorf("clickhouse %s: table %s.%s: user %q is read-only (setting readonly=%s): give it a profile with readonly=0, or use another user",
		s.conn.address(), s.database, s.table, s.conn.cfg.User, value)
}

func (s *core) noTable(ctx context.Context) error {
	known := 0
	err := s.conn.Query(ctx, "SELECT 1 FROM system.databases WHERE name = "+literal(s.database), func(driver.Rows) error { known++; return nil })
	if err != nil {
		return s.unreachable(err)
	}
	where := fmt.Sprintf("clickhouse %s: table %s.%s", s.conn.address(), s.database, s.table)
	if known == 0 {
		return fmt.Errorf("%s: %w: %s", where, &ServerError{81, "database " + s.database + " does not exist, or this user may not see it"},
			cure(81, s.database, s.table))
	}
	return fmt.Errorf("%s: %w: create it by clickhouse.CreateTable, for instance:\n%s", where,
		&ServerError{60, "the table does not exist, or this user may not see it"}, s.suggest())
}

// unreachable names the address and the cure; it is transient unless the server itself refused us.
func (s *core) unreachable(err error) error {
	err = serverError(err)
	switch codeOf(err) {
	case 0:
	case 164:
		return s.readonlyError("1")
	default:
		return s.explain("check", err)
	}
	return flow.Transient(fmt.Errorf("clickhouse %s: table %s.%s: %w: is the server up, and is %q its %s port?",
		s.conn.address(), s.database, s.table, err, s.conn.address(), s.conn.cfg.Protocol))
}

var engineArgs = regexp.MustCompile(`ReplacingMergeTree\(([^()]*)\)`)

func (s *core) setEngine(engine string) {
	name, _, _ := strings.Cut(engine, "(")
	name, _, _ = strings.Cut(name, " ")
	s.engine = name
	s.replicated = strings.HasPrefix(name, "Replicated") || strings.HasPrefix(name, "Shared")
	if s.version == "" {
		return
	}
	log := s.rt.Log.With("topology", s.rt.Topology, "node", s.rt.Node, "table", s.database+"."+s.table, "column", s.version)
	switch {
	case name == "Distributed":
	case !strings.Contains(name, "Replacing"):
		log.Warn("a version column without a ReplacingMergeTree keeps every version of a row: use ENGINE = ReplacingMergeTree("+s.version+")", "engine", name)
	default:
		args := ""
		if m := engineArgs.FindStringSubmatch(engine); m != nil {
			list := strings.Split(m[1], ",")
			args = strings.Trim(list[len(list)-1], " `")
			for _, a := range list {
				if strings.Trim(a, " `") == s.version {
					args = s.version
				}
			}
		}
		if args != s.version {
			log.Warn("the ReplacingMergeTree does not choose by this version column: use ENGINE = ReplacingMergeTree("+s.version+")", "engine", engine)
		}
	}
}
