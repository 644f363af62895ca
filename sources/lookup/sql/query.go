package sql

import (
	"errors"
	"reflect"
	"strings"

	"github.com/millrace-stream/millrace/sources/lookup/internal/columns"
)

// placeholder stands for the keys in a query.
const placeholder = "{keys}"

// query is a query's text around its keys.
type query struct {
	before, after string
	// array: the keys are one argument.
	array bool
}

func newQuery(cfg Config, plan *columns.Plan) (query, error) {
	text := cfg.Query
	if text == "" {
		if plan.Single() {
			return query{}, errors.New("a value that is no struct names no column: give a query instead of table and key")
		}
		names := append([]string{cfg.Key}, plan.Names()...)
		for i := range names {
			names[i] = quote(cfg.Dialect, names[i])
		}
		var table []string
		for part := range strings.SplitSeq(cfg.Table, ".") {
			table = append(table, quote(cfg.Dialect, part))
		}
		within := " IN (" + placeholder + ")"
		if cfg.Dialect == Postgres {
			within = " = ANY(" + placeholder + ")"
		}
		text = "SELECT " + strings.Join(names, ", ") + " FROM " + strings.Join(table, ".") + " WHERE " + names[0] + within
	}
	before, after, _ := strings.Cut(text, placeholder)
	return query{before, after, cfg.Dialect == Postgres}, nil
}

// quote writes a name so that it can be anything.
func quote(dialect, name string) string {
	q := `"`
	if dialect == MySQL {
		q = "`"
	}
	return q + strings.ReplaceAll(name, q, q+q) + q
}

// queryArgs returns the query for as many keys, and its arguments.
func queryArgs[K comparable](q *query, keys []K) (string, []any) {
	if q.array {
		return q.before + "$1" + q.after, []any{array(keys)}
	}
	args := make([]any, len(keys))
	for i, k := range keys {
		args[i] = plain(k)
	}
	return q.before + strings.TrimSuffix(strings.Repeat("?,", len(keys)), ",") + q.after, args
}

// plain makes strings and integers of types that have these kinds.
func plain(k any) any {
	switch v := reflect.ValueOf(k); {
	case v.Kind() == reflect.String:
		return v.String()
	case v.CanInt():
		return v.Int()
	}
	return k
}

// array makes []string and []int64 of keys of such kinds.
func array[K comparable](keys []K) any {
	t := reflect.TypeFor[K]()
	switch {
	case t.Kind() == reflect.String:
		a := make([]string, len(keys))
		for i, k := range keys {
			a[i] = reflect.ValueOf(k).String()
		}
		return a
	case reflect.Zero(t).CanInt():
		a := make([]int64, len(keys))
		for i, k := range keys {
			a[i] = reflect.ValueOf(k).Int()
		}
		return a
	}
	return keys
}
