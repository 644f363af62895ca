package iot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// Names of the tables.
const (
	TableMinutes     = "device_minute"
	TableLate        = "late"
	TableBadClock    = "bad_clock"
	TableInvalid     = "invalid"
	TableAlarms      = "alarms"
	TableDeadLetters = "dead_letters"
)

// versionColumn decides which of several rows of one identity is the last word.
const versionColumn = "version"

// MinuteRow is a row of device_minute: one device, one minute. A later word of the same window has a higher version and wins.
type MinuteRow struct {
	Device string         `ch:"device"`
	Minute flow.Timestamp `ch:"minute,DateTime('UTC')"`
	Site   string         `ch:"site,LowCardinality(String)"`
	Region string         `ch:"region,LowCardinality(String)"`
	Count  int64          `ch:"count"`
	Avg    float64        `ch:"avg"`
	Min    float64        `ch:"min"`
	Max    float64        `ch:"max"`
}

// EventRow is a row of late, bad_clock and invalid: a reading that does not count, and why.
type EventRow struct {
	Device      string    `ch:"device"`
	Seq         int64     `ch:"seq"`
	At          time.Time `ch:"at,DateTime64(3, 'UTC')"`
	Temperature float64   `ch:"temperature"`
	Humidity    float64   `ch:"humidity"`
	Reason      string    `ch:"reason"`
}

// AlarmRow is a row of alarms: one raising, update or clearing of an alarm. Those of one alarm have its id.
type AlarmRow struct {
	Device      string    `ch:"device"`
	ID          string    `ch:"id"`
	Rule        string    `ch:"rule,LowCardinality(String)"`
	State       string    `ch:"state,LowCardinality(String)"`
	Severity    string    `ch:"severity,LowCardinality(String)"`
	Message     string    `ch:"message"`
	Reason      string    `ch:"reason,LowCardinality(String)"`
	Site        string    `ch:"site,LowCardinality(String)"`
	Region      string    `ch:"region,LowCardinality(String)"`
	Temperature float64   `ch:"temperature"`
	Humidity    float64   `ch:"humidity"`
	Since       time.Time `ch:"since,DateTime64(3, 'UTC')"`
	At          time.Time `ch:"at,DateTime64(3, 'UTC')"`
	Command     string    `ch:"command"`
}

func minuteRow(w window.Result[string, Minute]) MinuteRow {
	m := w.Value
	return MinuteRow{Device: w.Key, Minute: w.Start, Site: m.Site, Region: m.Region, Count: m.Count, Avg: m.Avg, Min: m.Min, Max: m.Max}
}

func lateRow(l flow.Late[Placed]) EventRow {
	p := l.Value
	return EventRow{Device: p.DeviceID, Seq: p.Seq, At: p.At(), Temperature: p.Temperature, Humidity: p.Humidity, Reason: l.Reason}
}

func badClockRow(l flow.Late[Reading]) EventRow {
	row := invalidRow(l.Value)
	row.Reason = l.Reason
	return row
}

func invalidRow(r Reading) EventRow {
	return EventRow{
		Device: r.DeviceID, Seq: r.Seq, At: r.At(), Temperature: r.Temperature, Humidity: r.Humidity,
		Reason: "the sensors cannot measure such values",
	}
}

func alarmRow(a Alarm) AlarmRow {
	return AlarmRow{
		Device: a.Device, ID: a.ID, Rule: a.Rule, State: a.State.String(), Severity: a.Severity, Message: a.Message, Reason: a.Reason,
		Site: a.Site, Region: a.Region, Temperature: a.Temperature, Humidity: a.Humidity, Since: a.Since, At: a.At, Command: a.Command,
	}
}

// DDL is the statements that make the tables, in their order.
func DDL() ([]string, error) {
	minutes, err0 := clickhouse.DDL[MinuteRow](TableMinutes, clickhouse.Replacing(versionColumn), clickhouse.OrderBy("device", "minute"),
		clickhouse.PartitionBy("toYYYYMM(minute)"))
	statements, errs := []string{minutes}, []error{err0}
	for _, table := range []string{TableLate, TableBadClock, TableInvalid} {
		sql, err := clickhouse.DDL[EventRow](table, clickhouse.Replacing(versionColumn), clickhouse.OrderBy("device", "seq"))
		statements, errs = append(statements, sql), append(errs, err)
	}
	alarms, err := clickhouse.DDL[AlarmRow](TableAlarms, clickhouse.Replacing(versionColumn), clickhouse.OrderBy("device", "id", "at", "state", "reason"))
	statements, errs = append(statements, alarms), append(errs, err)
	letters, err := clickhouse.DDL[clickhouse.DeadLetterRow](TableDeadLetters, clickhouse.OrderBy("topology", "node", "at"))
	return append(statements, letters), errors.Join(append(errs, err)...)
}

// CreateTables makes the database and the tables that are not there yet.
func CreateTables(ctx context.Context, cfg ClickHouseConfig) error {
	statements, err := DDL()
	if err != nil {
		return err
	}
	server := cfg
	server.Database = "default"
	if err := exec(ctx, server, "CREATE DATABASE IF NOT EXISTS `"+cfg.Database+"`"); err != nil {
		return fmt.Errorf("database %s: %w", cfg.Database, err)
	}
	return exec(ctx, cfg, statements...)
}

// DropTables drops the database with everything in it.
func DropTables(ctx context.Context, cfg ClickHouseConfig) error {
	server := cfg
	server.Database = "default"
	return exec(ctx, server, "DROP DATABASE IF EXISTS `"+cfg.Database+"` SYNC")
}

func exec(ctx context.Context, cfg ClickHouseConfig, statements ...string) error {
	ch := Connect(cfg)
	for _, sql := range statements {
		if err := ch.Exec(ctx, sql); err != nil {
			return errors.Join(err, ch.Close())
		}
	}
	return ch.Close()
}

// Connect makes the connection that the sinks use. Nothing is connected before its first use.
func Connect(cfg ClickHouseConfig) *clickhouse.Conn {
	return clickhouse.New(clickhouse.Config{
		Addr: cfg.Addr, Protocol: clickhouse.Protocol(cfg.Protocol), Database: cfg.Database, User: cfg.Username,
		Password: clickhouse.Secret(cfg.Password.Reveal()),
	})
}
