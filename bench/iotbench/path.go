package iotbench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// lateFrom is the first reading that may be late: before it there is no watermark.
const lateFrom = 4 * flow.MaxBatch

// Reading makes reading i. Of 100 five are heartbeats and one comes an hour late, of 200 one has a value that no sensor can measure, and
// every fiftieth is the one 25 before it again.
func (s Size) Reading(i int64) iot.Reading {
	if i%50 == 49 {
		i -= 25
	}
	h := s.hash(i)
	device := among(h, s.Devices)
	r := iot.Reading{
		DeviceID: deviceName(device), Site: iot.SiteName(device), Kind: iot.KindReading, TS: s.at(i), Seq: i,
		Temperature: float64(h%120) / 4, Humidity: float64(h >> 8 % 400 / 4),
	}
	switch z := mixed(h); {
	case z%20 == 0:
		r.Kind = iot.KindHeartbeat
	case z>>8%200 == 0:
		r.Temperature = 999
	case z>>24%100 == 0 && i >= lateFrom:
		r.TS -= time.Hour.Milliseconds()
	}
	return r
}

func deviceName(n int) string {
	const zeros = "dev-0000000"
	d := strconv.Itoa(n)
	return zeros[:len(zeros)-len(d)] + d
}

// path is topologies/iot with a source that encodes and decodes each reading, and without its tables.
func path(t *flow.Topology, l *harness.Load, s Size) []flow.Stream[Row] {
	c := iot.ReadingCodec()
	var payload []byte
	raw := flow.From(t, "readings", harness.From(l, func(i int64, r *iot.Reading) {
		made := s.Reading(i)
		var err error
		if payload, err = c.Append(payload[:0], &made); err == nil {
			*r = iot.Reading{}
			err = c.Decode(payload, r)
		}
		if err != nil {
			*r = iot.Reading{}
		}
	}))
	cfg := iot.DefaultConfig()
	clean := iot.Clean(iot.Accepted(raw, "accepted"), "clean", iot.Sites(), cfg.Time)
	minutes := iot.PerMinute(iot.Fresh(clean, "dedup", cfg.Dedup), "window", cfg.Time)
	minuteRows := operators.Map(minutes, "minute-row", func(_ context.Context, r window.Result[string, iot.Minute]) (Row, error) {
		v := &r.Value
		last := min(s.number(end(r.End))-1, l.Taken()-1)
		return Row{Of: "minute", Key: r.Key, At: end(r.End), Count: v.Count, Value: v.Avg, Least: v.Min, Most: v.Max, Text: v.Site + " " + v.Region, N: last}, nil
	})
	lateRows := operators.Map(minutes.Late(), "late-row", func(_ context.Context, r flow.Late[iot.Placed]) (Row, error) {
		return Row{Of: "late", Key: r.Value.DeviceID, At: r.Value.TS, N: r.Value.Seq}, nil
	})
	invalidRows := operators.Map(clean.Invalid(), "invalid-row", func(_ context.Context, r iot.Reading) (Row, error) {
		return Row{Of: "invalid", Key: r.DeviceID, At: r.TS, N: r.Seq}, nil
	})
	flow.To(clean.BadClock(), "bad-clock", flow.SinkFunc(func(_ context.Context, batch []flow.Record[flow.Late[iot.Reading]]) error {
		return fmt.Errorf("%s at %d is no bad clock", batch[0].Value.Value.DeviceID, batch[0].Value.Value.TS)
	}))
	return []flow.Stream[Row]{minuteRows, lateRows, invalidRows}
}
