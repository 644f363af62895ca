package clickhouse

import (
	"math"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// DeadLetterRow is the row of a table of dead letters: make the table by CreateTable[DeadLetterRow].
type DeadLetterRow struct {
	At        flow.Timestamp `ch:"at,DateTime64(3, 'UTC')"`
	Topology  string         `ch:"topology,LowCardinality(String)"`
	Node      string         `ch:"node,LowCardinality(String)"`
	Cause     string         `ch:"cause"`
	Attempts  int32          `ch:"attempts"`
	Key       string         `ch:"key"`
	Time      flow.Timestamp `ch:"time,Nullable(DateTime64(3, 'UTC'))"`
	Raw       []byte         `ch:"raw"`
	Record    []byte         `ch:"record"`
	Partition string         `ch:"partition"`
	Offset    int64          `ch:"offset"`
	Token     string         `ch:"token"`
}

// DeadLetters is the sink for a topology's dead letters: flow.To(t.DeadLetters(), "dead-letter", clickhouse.DeadLetters(ch, "dead_letter")).
func DeadLetters(c *Conn, table string, opts ...Option) flow.Sink[flow.DeadLetter] {
	return Sink(c, table, deadLetterRow, opts...)
}

func deadLetterRow(d flow.DeadLetter) DeadLetterRow {
	at, when := d.At, d.Time
	if !holds(at) {
		at = 0
	}
	if !holds(when) { // a bad clock may be why the record is here: it must not be refused again
		when = flow.None
	}
	return DeadLetterRow{
		At: at, Topology: d.Topology, Node: d.Node, Cause: d.Cause, Attempts: int32(min(d.Attempts, math.MaxInt32)), Key: d.Key, Time: when,
		Raw: d.Raw, Record: d.Record, Partition: d.Partition, Offset: d.Position.Offset, Token: d.Position.Token,
	}
}

// holds tells whether DateTime64 can hold t.
func holds(t flow.Timestamp) bool {
	return t >= minSeconds*flow.Timestamp(time.Second) && t < maxSeconds*flow.Timestamp(time.Second)
}
