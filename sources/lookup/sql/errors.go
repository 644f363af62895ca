package sql

import (
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// valueError tells errors that a key is to blame for.
func valueError(err error) bool {
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) {
		return strings.HasPrefix(pe.Code, "22") // data exception
	}
	if me := (*mysql.MySQLError)(nil); errors.As(err, &me) {
		switch me.Number {
		case 1264, 1292, 1366, 1525: // out of range, truncated, incorrect value
			return true
		}
	}
	return false
}

// cure says what to do about an error that does not go away by itself.
func cure(err error) string {
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) {
		switch {
		case strings.HasPrefix(pe.Code, "28"):
			return ": check user and password; it is tried again meanwhile"
		case pe.Code == "42501":
			return ": grant the user SELECT; it is tried again meanwhile"
		case pe.Code == "42P01", pe.Code == "42703", pe.Code == "3D000", pe.Code == "3F000":
			return ": check the names of database, table and columns; it is tried again meanwhile"
		case pe.Code == "42883", pe.Code == "42804":
			return ": the key's type does not fit the column's: change it, or cast in a query; it is tried again meanwhile"
		case pe.Code == "57014":
			return ": is there an index on the key? Else raise statement_timeout"
		}
		return ""
	}
	if me := (*mysql.MySQLError)(nil); errors.As(err, &me) {
		switch me.Number {
		case 1045, 1698:
			return ": check user and password; it is tried again meanwhile"
		case 1044, 1142, 1143:
			return ": grant the user SELECT; it is tried again meanwhile"
		case 1049, 1054, 1146:
			return ": check the names of database, table and columns; it is tried again meanwhile"
		case 1969, 3024:
			return ": is there an index on the key? Else raise statement_timeout"
		}
	}
	return ""
}
