package file

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/millrace-stream/millrace/sources/lookup/internal/columns"
)

func (c Config) format() (string, error) {
	f := c.Format
	if f == "" {
		f = strings.TrimPrefix(strings.ToLower(filepath.Ext(c.Path)), ".")
		if f == "yml" {
			f = "yaml"
		}
	}
	switch f {
	case "csv", "tsv", "json", "yaml":
		return f, nil
	}
	return "", fmt.Errorf("file lookup %s: format %q is not known: set format to csv, tsv, json or yaml", c.Path, f)
}

// row is one row and the line it begins in.
type row[V any] struct {
	v    V
	line int
}

// parse reads all rows and checks them.
func (t *Table[K, V]) parse(data []byte) (map[K]V, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	format, err := t.cfg.format()
	if err != nil {
		return nil, err
	}
	var rows []row[V]
	switch format {
	case "csv":
		rows, err = parseCSV[V](data, ',', t.cfg.AllowUnknown)
	case "tsv":
		rows, err = parseCSV[V](data, '\t', t.cfg.AllowUnknown)
	case "json":
		rows, err = parseJSON[V](data, t.cfg.AllowUnknown)
	case "yaml":
		rows, err = parseYAML[V](data, t.cfg.AllowUnknown)
	}
	if err != nil {
		return nil, err
	}
	if len(rows) < t.cfg.MinRows {
		return nil, fmt.Errorf("it has %d rows, fewer than min_rows (%d): is it cut off?", len(rows), t.cfg.MinRows)
	}
	byKey, lines := make(map[K]V, len(rows)), make(map[K]int, len(rows))
	for _, r := range rows {
		for _, check := range t.opts.checks {
			if err := check(r.v); err != nil {
				return nil, fmt.Errorf("line %d: %w", r.line, err)
			}
		}
		k := t.key(r.v)
		if other, ok := lines[k]; ok {
			return nil, fmt.Errorf("line %d: key %v is in line %d already: take one of them out", r.line, k, other)
		}
		byKey[k], lines[k] = r.v, r.line
	}
	return byKey, nil
}

func parseCSV[V any](data []byte, comma rune, more bool) ([]row[V], error) {
	plan, err := columns.Of[V]("csv")
	if err != nil {
		return nil, err
	}
	if plan.Single() {
		return nil, fmt.Errorf("a row cannot be a %v: use a struct with a field for each column", reflect.TypeFor[V]())
	}
	if err := plan.Textual(reflect.TypeFor[V]()); err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.Comma, r.ReuseRecord = comma, true
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: begin it with a line of column names")
	}
	if err != nil {
		return nil, err
	}
	fields, err := plan.Resolve(head, more)
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	var rows []row[V]
	for {
		texts, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err // it names the line
		}
		line, _ := r.FieldPos(0)
		rows = append(rows, row[V]{line: line})
		if err := fields.SetText(&rows[len(rows)-1].v, texts); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func parseJSON[V any](data []byte, more bool) ([]row[V], error) {
	lineAt := func(offset int64) int {
		return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if !more {
		d.DisallowUnknownFields()
	}
	bad := func(err error, line int) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("line %d: it ends within the array: is it cut off?", lineAt(int64(len(data))))
		}
		if se := (*json.SyntaxError)(nil); errors.As(err, &se) {
			line = lineAt(d.InputOffset())
		}
		return fmt.Errorf("line %d: %w", line, err)
	}
	first, err := d.Token()
	if err != nil {
		return nil, bad(err, 1)
	}
	if first != json.Delim('[') {
		return nil, fmt.Errorf("line %d: it begins with %v: make it an array of objects", lineAt(d.InputOffset()), first)
	}
	var rows []row[V]
	for d.More() {
		at := d.InputOffset()
		for at < int64(len(data)) && bytes.IndexByte([]byte(" \t\r\n,"), data[at]) >= 0 {
			at++
		}
		rows = append(rows, row[V]{line: lineAt(at)})
		if err := d.Decode(&rows[len(rows)-1].v); err != nil {
			return nil, bad(err, lineAt(at))
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, bad(err, 1)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: it goes on behind the array: take that out", lineAt(d.InputOffset()))
	}
	return rows, nil
}

func parseYAML[V any](data []byte, more bool) ([]row[V], error) {
	var opts []yaml.DecodeOption
	if !more {
		opts = append(opts, yaml.Strict())
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return nil, errors.New("it is empty: make it a sequence of mappings")
	}
	list, ok := tree.Docs[0].Body.(*ast.SequenceNode)
	if !ok || len(tree.Docs) > 1 {
		return nil, fmt.Errorf("line %d: it is not one sequence: make it a sequence of mappings", tree.Docs[0].Body.GetToken().Position.Line)
	}
	var vals []V
	if err := yaml.UnmarshalWithOptions(data, &vals, opts...); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false)) // it names line and column
	}
	rows := make([]row[V], len(vals))
	for i := range vals {
		rows[i] = row[V]{vals[i], list.Values[min(i, len(list.Values)-1)].GetToken().Position.Line}
	}
	return rows, nil
}
