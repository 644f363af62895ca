package clickhouse

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// systematic is how many rows of one insert may be refused, with none accepted, before the table is blamed and not the data.
const systematic = 128

// insert delivers all parts of an insert. What it has done stays done when it returns an error and is called again.
func (s *core) insert(ctx context.Context, in *insert) error {
	for len(in.parts) > 0 {
		p := in.parts[len(in.parts)-1]
		err := s.attempt(ctx, in, p)
		if err == nil {
			in.parts = in.parts[:len(in.parts)-1]
			in.accepted += p.to - p.from
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("clickhouse insert: %w", cause)
		}
		switch fateOf(err) {
		case retry, unknown, stop:
			return s.explain("insert", err)
		}
		in.parts = in.parts[:len(in.parts)-1]
		if p.to-p.from > 1 {
			half := (p.from + p.to) / 2
			in.parts = append(in.parts, s.piece(half, p.to), s.piece(p.from, half))
			continue
		}
		s.refuse(in, p.from, err)
		if in.accepted > 0 || in.refusals < systematic {
			continue
		}
		if in.probing || len(in.parts) == 0 {
			return s.explain(fmt.Sprintf("%d rows tried one by one, all refused, so it is not the data", in.refusals), err)
		}
		in.probing = true // one row from the other end, before blaming the table
		far := in.parts[0]
		probe := s.piece(far.to-1, far.to)
		if far.to-far.from > 1 {
			in.parts[0] = s.piece(far.from, far.to-1)
		} else {
			in.parts = in.parts[1:]
		}
		in.parts = append(in.parts, probe)
	}
	return nil
}

func (s *core) piece(from, to int) *part { return &part{from: from, to: to, token: s.token()} }

// refuse keeps a row that the server does not take, for the dead letters.
func (s *core) refuse(in *insert, row int, err error) {
	b, at := in.locate(row)
	b.rejects = append(b.rejects, flow.Reject{
		Row: at, Time: b.times[at], Record: b.appendJSON(nil, at),
		Err: fmt.Errorf("clickhouse table %s.%s refused the row: %w", s.database, s.table, err),
	})
	in.refusals++
	s.rt.Count("refused_rows", 1)
}

// attempt sends one part once.
func (s *core) attempt(ctx context.Context, in *insert, p *part) error {
	if p.tries > 0 {
		s.rt.Count("retries", 1)
	}
	if p.unknown && !s.replicated {
		// The server may have stored the token without the rows: under the same token they would be lost. First the old attempt
		// must have ended, else it could still store them after we looked away.
		if err := s.settle(ctx, p); err != nil {
			return &notSent{err}
		}
		p.token, p.unknown = s.token(), false
		s.rt.Count("repeats", int64(p.to-p.from))
	}
	p.tries++
	p.queryID = fmt.Sprintf("millrace/%s/%d", p.token, p.tries)
	cols, rows := in.cols, p.to-p.from
	if rows != cols[0].Rows() {
		cols = make([]column, len(in.cols))
		for i, c := range in.cols {
			fresh, err := newColumn(string(c.Type()))
			if err != nil {
				return err
			}
			fresh.AppendRows(c, p.from, p.to)
			cols[i] = fresh
		}
	}
	if err := checkColumns(in.names, cols, rows); err != nil {
		return &misbuilt{err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.conn.cfg.ReadTimeout)
	defer cancel()
	var err error
	if s.conn.cfg.Protocol == HTTP {
		err = s.sendHTTP(ctx, in.names, cols, rows, p)
	} else {
		err = s.sendNative(ctx, in.names, cols, p)
	}
	err = serverError(err)
	if err == nil {
		s.rt.Count("inserts", 1)
		return nil
	}
	// A failure before sending leaves an earlier unknown outcome unknown.
	p.unknown = p.unknown || fateOf(err) == unknown
	return err
}

const (
	settlePoll  = 100 * time.Millisecond
	settleBound = 30 * time.Second
)

// settle waits until the server no longer runs an attempt, after asking it to stop.
func (s *core) settle(ctx context.Context, p *part) error {
	db, err := s.conn.open([]string{p.addr})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	id := literal(p.queryID)
	count := func() (n uint64, err error) {
		qctx, cancel := context.WithTimeout(ctx, s.conn.cfg.DialTimeout)
		defer cancel()
		err = db.QueryRow(qctx, "SELECT count() FROM system.processes WHERE query_id = "+id).Scan(&n)
		return n, err
	}
	for waited := time.Duration(0); ; waited += settlePoll {
		n, err := count()
		if codeOf(serverError(err)) == 497 {
			s.rt.Log.Warn("cannot see whether an insert with unknown outcome still runs: GRANT SELECT ON system.processes",
				"table", s.table, "err", err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking whether insert %s still runs: %w", p.queryID, serverError(err))
		}
		if n == 0 {
			return nil
		}
		if waited == 0 {
			if err := db.Exec(ctx, "KILL QUERY WHERE query_id = "+id+" ASYNC"); err != nil {
				s.rt.Log.Warn("cannot end an insert with unknown outcome, waiting for it", "table", s.table, "err", err)
			}
		}
		if waited >= settleBound {
			return fmt.Errorf("insert %s still runs after %s", p.queryID, settleBound)
		}
		if err := s.rt.Clock.Sleep(ctx, settlePoll); err != nil {
			return err
		}
	}
}

// ownSettings are those that delivery depends on.
var ownSettings = [...]string{"async_insert", "insert_deduplicate", "insert_deduplication_token"}

// settings are sent with each insert, whatever the server's defaults are.
func (s *core) settings(token string, set func(name, value string)) {
	for k, v := range s.conn.cfg.Settings {
		set(k, v)
	}
	set("async_insert", "0")
	set("insert_deduplicate", "1")
	set("insert_deduplication_token", token)
}

// statement is the INSERT, always with its columns named.
func (s *core) statement(names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s.%s (", quote(s.database), quote(s.table))
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(n))
	}
	b.WriteString(") FORMAT Native")
	return b.String()
}

func quote(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

func literal(s string) string {
	return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(s) + "'"
}
