package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go"
	chgo "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace-stream/millrace/flow"
)

// ServerError is what the server itself said, over either protocol. Errors of this package wrap it.
type ServerError struct {
	// Code is ClickHouse's number, for instance 60 for an unknown table.
	Code int
	// Message is the server's text.
	Message string
}

// Error gives code and text.
func (e *ServerError) Error() string { return fmt.Sprintf("server error %d: %s", e.Code, e.Message) }

// serverError turns the clients' exceptions into ours and leaves other errors alone.
func serverError(err error) error {
	if err == nil {
		return nil
	}
	var own *ServerError
	if errors.As(err, &own) {
		return err
	}
	var native *ch.Exception
	if errors.As(err, &native) {
		return &ServerError{int(native.Code), strings.TrimPrefix(native.Message, "DB::Exception: ")}
	}
	var client *chgo.Exception
	if errors.As(err, &client) {
		return &ServerError{int(client.Code), strings.TrimPrefix(client.Message, "DB::Exception: ")}
	}
	return err
}

// codeOf is the server's code, 0 when the server did not speak.
func codeOf(err error) int {
	var e *ServerError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// notSent marks a failure before the first byte of an insert: the outcome is known.
type notSent struct{ err error }

func (e *notSent) Error() string { return e.err.Error() }
func (e *notSent) Unwrap() error { return e.err }

// misbuilt is an insert that was refused before it was sent: an error of our own making, which no repetition mends.
type misbuilt struct{ err error }

func (e *misbuilt) Error() string { return "insert not sent: " + e.err.Error() }
func (e *misbuilt) Unwrap() error { return e.err }

// fate is what to do about a failed insert.
type fate int

const (
	// retry: nothing was stored, the same insert may succeed later.
	retry fate = iota
	// unknown: the rows may be stored or not.
	unknown
	// split: the insert is too broad (partitions); halves pass.
	split
	// refused: the data are at fault, or may be: find the rows by halving.
	refused
	// stop: no row can pass until a person mends something.
	stop
)

// fateOf classes an insert's error. A code that nobody has classed counts as refused: halving finds out whether it is the data.
func fateOf(err error) fate {
	var own *misbuilt
	if errors.As(err, &own) {
		return stop
	}
	var e *ServerError
	if !errors.As(err, &e) {
		var before *notSent
		if errors.As(err, &before) {
			return retry
		}
		return unknown
	}
	switch e.Code {
	case 252: // TOO_MANY_PARTS: of the table, or partitions in this insert
		if strings.Contains(e.Message, "single INSERT block") {
			return split
		}
		return retry
	case 209, 210, 236, 319: // the server lost a replica, was shut down, or does not know itself
		return unknown
	case 3, 107, 159, 164, 173, 202, 203, 225, 241, 242, 243, 285, 290, 394, 425, 439, 667, 745, 999:
		return retry
	case 16, 36, 44, 46, 47, 48, 50, 53, 60, 62, 81, 115, 192, 193, 194, 195, 218, 223, 291, 344, 392, 497, 516, 519, 732, 774:
		return stop
	}
	return refused
}

// cure says what mends an error of the server, "" when nothing better is known than the text itself.
func cure(code int, database, table string) string {
	switch code {
	case 60, 218:
		return fmt.Sprintf("create the table %s.%s, for instance by clickhouse.CreateTable", database, table)
	case 81:
		return fmt.Sprintf("CREATE DATABASE %s, or name another one in the config's database", quote(database))
	case 16, 47:
		return "add the column (ALTER TABLE … ADD COLUMN), or take it out of the row type"
	case 53:
		return "make the row type's field and the column's type agree; the table has changed since Open"
	case 516, 192, 193, 194:
		return "check user and password in the config"
	case 497, 195, 291:
		return fmt.Sprintf("GRANT INSERT, SELECT ON %s.%s TO the user", database, table)
	case 774:
		return "the table is read-only for good: its disk or its setting table_readonly says so"
	case 115:
		return "the server does not know a setting: check the config's settings"
	}
	return ""
}

// explain adds where and the cure to an error, and marks it transient when waiting may help.
func (s *core) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	text := ""
	if c := cure(codeOf(err), s.database, s.table); c != "" {
		text = ": " + c
	}
	out := fmt.Errorf("clickhouse %s: table %s.%s: %s: %w%s", s.conn.address(), s.database, s.table, doing, err, text)
	switch fateOf(err) {
	case retry, unknown:
		if errors.Is(err, context.Canceled) {
			return out
		}
		return flow.Transient(out)
	}
	return out
}
