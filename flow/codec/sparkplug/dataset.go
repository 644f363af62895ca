package sparkplug

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Table is a data set: rows of values under named columns.
type Table struct {
	Columns []string
	Types   []DataType
	Rows    [][]Value
}

// Table takes a value of type DataSet apart. Each row must have a value per column, each column a name and a type; there are at most
// MaxMetrics values.
func (v Value) Table() (Table, error) {
	var t Table
	if v.Type != DataSet || v.Null {
		return t, fmt.Errorf("the value is not a data set: its type is %d", v.Type)
	}
	var rows [][]byte
	err := walk(v.Bytes, "dataset", 0, func(num protowire.Number, typ protowire.Type, value []byte, bits uint64, left int) error {
		switch num {
		case 2:
			s, err := text("dataset.columns", typ, value, left)
			if err != nil {
				return err
			}
			t.Columns = append(t.Columns, s)
		case 3:
			if typ == protowire.BytesType { // packed
				for len(value) > 0 {
					x, n := protowire.ConsumeVarint(value)
					if n < 0 {
						return &wireError{field: "dataset.types", left: left, what: reason(n)}
					}
					t.Types = append(t.Types, DataType(min(x, 255)))
					value = value[n:]
				}
				return nil
			}
			t.Types = append(t.Types, DataType(min(bits, 255)))
			return want("dataset.types", typ, protowire.VarintType, left)
		case 4:
			rows = append(rows, value)
			return want("dataset.rows", typ, protowire.BytesType, left)
		}
		return nil
	})
	if err != nil {
		return t, inside(err, len(v.Bytes))
	}
	if len(t.Types) != len(t.Columns) {
		return t, fmt.Errorf("data set: %d columns have %d types", len(t.Columns), len(t.Types))
	}
	if int64(len(rows))*int64(max(len(t.Columns), 1)) > MaxMetrics {
		return t, fmt.Errorf("data set: %d rows of %d columns are more than %d values", len(rows), len(t.Columns), MaxMetrics)
	}
	for i, r := range rows {
		row, err := t.row(r)
		if err != nil {
			return t, fmt.Errorf("data set: row %d: %w", i+1, err)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func inside(err error, size int) error {
	if e, ok := err.(*wireError); ok { //nolint:errorlint // made by walk, never wrapped
		e.at = size - e.left
	}
	return err
}

func (t *Table) row(data []byte) ([]Value, error) {
	var row []Value
	err := walk(data, "rows", 0, func(num protowire.Number, typ protowire.Type, value []byte, _ uint64, left int) error {
		if num != 1 {
			return nil
		}
		if err := want("elements", typ, protowire.BytesType, left); err != nil {
			return err
		}
		if len(row) == len(t.Columns) {
			return fmt.Errorf("more values than the %d columns", len(t.Columns))
		}
		m := Metric{Name: t.Columns[len(row)]}
		err := walk(value, "elements", left-len(value), func(num protowire.Number, typ protowire.Type, value []byte, bits uint64, left int) error {
			if num < 1 || num > 6 {
				return nil
			}
			return m.readValue(Wire(num+9), typ, value, bits, left)
		})
		if err != nil {
			return err
		}
		v, err := m.Value(t.Types[len(row)])
		row = append(row, v)
		return err
	})
	if err != nil {
		return nil, inside(err, len(data))
	}
	if len(row) != len(t.Columns) {
		return nil, fmt.Errorf("%d values for %d columns", len(row), len(t.Columns))
	}
	return row, nil
}
