package clickhouse

import (
	"context"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// sendNative inserts over the native protocol: one block, so that the server stores it as a whole.
func (s *core) sendNative(ctx context.Context, names []string, cols []column, p *part) error {
	c, err := s.conn.native(ctx)
	if err != nil {
		return &notSent{err}
	}
	p.addr = c.addr
	input := make(proto.Input, len(cols))
	for i, col := range cols {
		input[i] = proto.InputColumn{Name: names[i], Data: col}
	}
	q := ch.Query{Body: s.statement(names), QueryID: p.queryID, Input: input}
	s.settings(p.token, func(k, v string) {
		q.Settings = append(q.Settings, ch.Setting{Key: k, Value: v, Important: true})
	})
	if err := c.Do(ctx, q); err != nil {
		_ = c.Close() // after an error nobody knows where the stream stands
		return err
	}
	s.conn.release(c)
	return nil
}
