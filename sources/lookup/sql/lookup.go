// Package sql looks values up in MySQL, MariaDB and PostgreSQL, for operators.Enrich.
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sources/lookup/internal/columns"
)

// Lookup finds rows by key: one query for all keys of a batch. It is safe for concurrent use; Close it when no topology uses it any
// more.
//
// Keys are compared exactly: a row whose key the database thinks equal in another case or with blanks at its end (MySQL's collations) is
// not found. Two rows of one key are an error of that key.
//
// Errors: what concerns values (a column that does not fit its field, NULL where the field takes none, a key that the column's type does
// not take) is permanent, and so the record's. All else is transient, a refused password or a missing table too, since no record is to
// blame: it is tried until somebody mends it, or answered by Enrich's Fallback.
type Lookup[K comparable, V any] struct {
	cfg   Config
	db    *sql.DB
	own   bool // db is ours to close
	query query
	plan  *columns.Plan
	// known are the columns of the last answer.
	known atomic.Pointer[resolved]
}

type resolved struct {
	names []string
	row   *columns.Row
}

// New makes a lookup. It connects when it is first asked. V is a struct, whose fields take the columns by the tag db or their names in
// snake case (DeviceID is device_id), or any type that takes a column, when there is one beside the key. Fields are of types that
// database/sql can scan into: pointers and sql.Null take NULL.
func New[K comparable, V any](cfg Config) (*Lookup[K, V], error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	plan, err := columns.Of[V]("db")
	if err != nil {
		return nil, cfg.wrap(err)
	}
	q, err := newQuery(cfg, plan)
	if err != nil {
		return nil, cfg.wrap(err)
	}
	l := &Lookup[K, V]{cfg: cfg, query: q, plan: plan, db: cfg.DB}
	if l.db == nil {
		if l.db, err = open(cfg); err != nil {
			return nil, cfg.wrap(err)
		}
		l.own = true
		l.db.SetMaxOpenConns(cfg.MaxConns)
		l.db.SetMaxIdleConns(cfg.MaxConns)
		l.db.SetConnMaxLifetime(cfg.ConnLifetime)
	}
	return l, nil
}

// Close closes the connections, unless they are those of Config.DB.
func (l *Lookup[K, V]) Close() error {
	if !l.own {
		return nil
	}
	return l.db.Close()
}

// Lookup asks for all keys in one query.
func (l *Lookup[K, V]) Lookup(ctx context.Context, keys []K, vals []V, found []bool) error {
	clear(found)
	err := l.lookup(ctx, keys, vals, found)
	if err == nil || ctx.Err() != nil {
		return err
	}
	err = l.cfg.wrap(err)
	if isPermanent(err) {
		return err
	}
	return flow.Transient(err)
}

func (l *Lookup[K, V]) lookup(ctx context.Context, keys []K, vals []V, found []bool) error {
	at := make(map[K]int, len(keys))
	for i, k := range keys {
		at[k] = i
	}
	text, args := queryArgs(&l.query, keys)
	rows, err := l.db.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	row, err := l.columns(rows)
	if err != nil {
		return err
	}
	var to []any
	for rows.Next() {
		var k K
		var v V
		to = row.Pointers(&v, append(to[:0], &k))
		if err := rows.Scan(to...); err != nil {
			return permanent{fmt.Errorf("a row does not fit %v: %w; where a column may be NULL, make the field a pointer or sql.Null",
				reflect.TypeFor[V](), err)}
		}
		i, ok := at[k]
		switch {
		case !ok: // equal to a key only as the database compares
		case found[i]:
			return permanent{fmt.Errorf("key %v has several rows: make it unique, or give a query that picks one", k)}
		default:
			vals[i], found[i] = v, true
		}
	}
	return rows.Err()
}

// columns finds the fields of the answer's columns, anew when these have changed.
func (l *Lookup[K, V]) columns(rows *sql.Rows) (*columns.Row, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	if k := l.known.Load(); k != nil && slices.Equal(k.names, names) {
		return k.row, nil
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("the query gives the columns %v: give the key first, then the columns of the value", names)
	}
	row, err := l.plan.Resolve(names[1:], false)
	if err != nil {
		return nil, err
	}
	l.known.Store(&resolved{slices.Clone(names), row})
	return row, nil
}

// permanent is an error of a key or its row.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool {
	return errors.As(err, new(permanent)) || valueError(err)
}
