package clickhouse

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// TableOption is one clause of a CREATE TABLE.
type TableOption func(*tableSpec)

type tableSpec struct {
	columns     []field
	engine      string
	version     string
	orderBy     []string
	partitionBy string
	ttl         []string
	settings    []string
}

// Engine sets the engine. Defaults to MergeTree.
func Engine(engine string) TableOption { return func(t *tableSpec) { t.engine = engine } }

// Replacing makes a ReplacingMergeTree that keeps, of rows with the same OrderBy columns, the one with the highest version. The
// UInt64 column is added where the row type has none: it is what the sink's Version fills.
func Replacing(version string) TableOption {
	return func(t *tableSpec) { t.engine, t.version = "ReplacingMergeTree("+quoteIfNeeded(version)+")", version }
}

// OrderBy is the sorting key: columns or expressions.
func OrderBy(exprs ...string) TableOption { return func(t *tableSpec) { t.orderBy = exprs } }

// PartitionBy is an expression, for instance toYYYYMM(start). An insert is cut by it, so keep it coarse.
func PartitionBy(expr string) TableOption { return func(t *tableSpec) { t.partitionBy = expr } }

// TTL says when rows go, or to which volume: "toDateTime(start) + INTERVAL 30 DAY", "toDateTime(start) + INTERVAL 7 DAY TO VOLUME 'cold'".
func TTL(exprs ...string) TableOption { return func(t *tableSpec) { t.ttl = append(t.ttl, exprs...) } }

// TableSetting adds a setting of the table, for instance storage_policy with 'hot_cold' (strings in quotes).
func TableSetting(name, value string) TableOption {
	return func(t *tableSpec) { t.settings = append(t.settings, name+" = "+value) }
}

// DedupWindow makes a table without replication remember the tokens of the last n inserts.
func DedupWindow(n int) TableOption {
	return TableSetting("non_replicated_deduplication_window", fmt.Sprint(n))
}

// TableColumns takes the columns from functions in place of the row type's tags.
func TableColumns[R any](columns ...Column[R]) TableOption {
	return func(t *tableSpec) {
		for _, c := range columns {
			t.columns = append(t.columns, c.f)
		}
	}
}

// DDL is the CREATE TABLE IF NOT EXISTS for rows of type R.
func DDL[R any](table string, opts ...TableOption) (string, error) {
	t := tableSpec{engine: "MergeTree"}
	for _, o := range opts {
		o(&t)
	}
	if t.columns == nil {
		fields, err := fieldsOf(reflect.TypeFor[R]())
		if err != nil {
			return "", fmt.Errorf("clickhouse table %q: %w", table, err)
		}
		t.columns = fields
	}
	return t.sql(table)
}

// CreateTable runs the DDL of R. A table that exists already stays as it is; the sink's Open compares it with the row type.
func CreateTable[R any](ctx context.Context, c *Conn, table string, opts ...TableOption) error {
	sql, err := DDL[R](table, opts...)
	if err != nil {
		return err
	}
	return c.Exec(ctx, sql)
}

func (t *tableSpec) sql(table string) (string, error) {
	if err := checkNames(t.columns); err != nil {
		return "", fmt.Errorf("clickhouse table %q: %w", table, err)
	}
	columns := t.columns
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(f field) bool { return f.name == name })
	}
	if t.version != "" && !has(t.version) {
		columns = append(slices.Clip(columns), field{name: t.version, typ: "UInt64"})
	}
	if strings.Contains(t.engine, "ReplacingMergeTree") && len(t.orderBy) == 0 {
		return "", fmt.Errorf("clickhouse table %q: a ReplacingMergeTree without OrderBy keeps one row of all: name the columns that identify a row", table)
	}
	var b strings.Builder
	b.WriteString("CREATE TABLE IF NOT EXISTS ")
	if db, name, ok := strings.Cut(table, "."); ok {
		b.WriteString(quote(db) + "." + quote(name))
	} else {
		b.WriteString(quote(table))
	}
	b.WriteString("\n(")
	for i, f := range columns {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n    %s %s", quote(f.name), f.typ)
	}
	fmt.Fprintf(&b, "\n)\nENGINE = %s", t.engine)
	if t.partitionBy != "" {
		fmt.Fprintf(&b, "\nPARTITION BY %s", t.partitionBy)
	}
	if strings.Contains(t.engine, "MergeTree") {
		keys := make([]string, len(t.orderBy))
		for i, k := range t.orderBy {
			keys[i] = k
			if has(k) {
				keys[i] = quoteIfNeeded(k)
			}
		}
		fmt.Fprintf(&b, "\nORDER BY (%s)", strings.Join(keys, ", "))
	}
	if len(t.ttl) > 0 {
		fmt.Fprintf(&b, "\nTTL %s", strings.Join(t.ttl, ", "))
	}
	if len(t.settings) > 0 {
		fmt.Fprintf(&b, "\nSETTINGS %s", strings.Join(t.settings, ", "))
	}
	return b.String(), nil
}

// suggest is the DDL that an error proposes.
func (s *core) suggest() string {
	t := tableSpec{engine: "MergeTree", columns: s.fields, version: s.version}
	if s.version != "" {
		t.engine, t.orderBy = "ReplacingMergeTree("+quoteIfNeeded(s.version)+")", []string{"/* the columns that identify a row */"}
	}
	sql, err := t.sql(s.database + "." + s.table)
	if err != nil {
		return err.Error()
	}
	return sql
}

func quoteIfNeeded(name string) string {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return quote(name)
		}
	}
	return name
}
