// Package bench measures what stands on several packages at once.
package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/rule"
)

type reading struct {
	Device   string
	Type     string
	Metric   string
	Celsius  float64
	Humidity float64
	At       int64
	Site     *site
}

type site struct{ Floor int }

func (r reading) key() string     { return r.Device }
func (r reading) time() time.Time { return time.Unix(r.At, 0) }

const (
	rules   = 10_000
	devices = 10_000
)

// readings are one of each device; devices are of 10 types with 100 metrics.
func readings() []reading {
	rs := make([]reading, devices)
	for i := range rs {
		rs[i] = reading{Device: fmt.Sprintf("dev-%05d", i), Type: fmt.Sprint("type-", i%10), Metric: fmt.Sprint("metric-", i/10%100), Celsius: float64(i % 50), Humidity: 40, Site: &site{i % 7}}
	}
	return rs
}

// sets are 10,000 rules each. Nothing is raised: what is measured is the looking.
var sets = []struct {
	name   string
	choose func(i int) string
	when   func(i int) string
}{
	// Each rule is of 1,000 devices, and each reading of 1,000 rules.
	{"by type, 1,000 of a reading", func(i int) string { return fmt.Sprintf("{Type: type-%d}", i%10) }, above},
	{"by type and metric, 10 of a reading", func(i int) string { return fmt.Sprintf("{Type: type-%d, Metric: metric-%d}", i%10, i/10%100) }, above},
	{"by device, 1 of a reading", func(i int) string { return fmt.Sprintf("{Device: dev-%05d}", i) }, above},
	{"without selection, 10,000 of a reading", func(int) string { return "{}" }, above},
	// Expressions that need the library's machine.
	{"by type and metric, 10 of a reading, behind a pointer", func(i int) string { return fmt.Sprintf("{Type: type-%d, Metric: metric-%d}", i%10, i/10%100) },
		func(i int) string { return fmt.Sprintf("Site.Floor > %d && Celsius > 1000", 10+i%20) }},
}

func above(i int) string {
	return fmt.Sprintf("Celsius > %d && Humidity < %d", 1000+i%50, i%100)
}

func yaml(choose, when func(int) string) string {
	var b strings.Builder
	for i := range rules {
		fmt.Fprintf(&b, "- {id: r%05d, select: %s, when: %s, for: 30s, severity: major}\n", i, choose(i), when(i))
	}
	return b.String()
}

// BenchmarkRules is what a reading costs 10,000 rules.
func BenchmarkRules(b *testing.B) {
	rs := readings()
	for _, s := range sets {
		b.Run(s.name, func(b *testing.B) {
			set, err := rule.Load[reading]("rules", []byte(yaml(s.choose, s.when)))
			require.NoError(b, err)
			require.Equal(b, rules, set.Len())
			t := rule.NewTracker[string, reading](codec.CBOR[reading](), nil)
			t.Use(set)
			var book rule.Book
			b.ReportAllocs()
			at := flow.Timestamp(0)
			for i := 0; b.Loop(); i++ {
				r := &rs[i%devices]
				t.Record(&book, r.Device, "", r, at, flow.None)
				at++
			}
			require.True(b, book.Empty())
			require.Empty(b, t.Alarms)
		})
	}
}

// BenchmarkRulesLoad is what it costs to read and compile 10,000 rules.
func BenchmarkRulesLoad(b *testing.B) {
	text := []byte(yaml(sets[0].choose, sets[0].when))
	b.ReportAllocs()
	for b.Loop() {
		_, err := rule.Load[reading]("rules", text)
		require.NoError(b, err)
	}
}

// BenchmarkRulesInTopology is a whole topology of one task: a source in memory, event time, KeyBy, Rules.
func BenchmarkRulesInTopology(b *testing.B) {
	s := sets[1]
	text := yaml(s.choose, s.when)
	src, rs := flowtest.NewSource[reading](), readings()
	top := flow.New("rules", flow.WithStore(state.InMemory()), flow.WithParallelism(1))
	in := flow.AssignTime(flow.From(top, "in", src), "time", reading.time, watermark.BoundedOutOfOrderness(time.Second))
	flow.To(operators.Rules(flow.KeyBy(in, reading.key), "alarms", rule.Text(text)), "out", flowtest.NewSink[rule.Alarm[string, reading]]())
	for n := b.N; n > 0; n -= devices {
		src.Feed(rs[:min(n, devices)]...)
	}
	src.End()
	b.ReportAllocs()
	b.ResetTimer()
	require.NoError(b, top.Run(b.Context()))
}

// BenchmarkRulesChange is what a task does when one of 10,000 rules has changed: the others are compiled.
func BenchmarkRulesChange(b *testing.B) {
	all, err := rule.Parse("rules", []byte(yaml(sets[0].choose, sets[0].when)))
	require.NoError(b, err)
	c := rule.NewCompiler[reading]()
	_, err = c.Set(all)
	require.NoError(b, err)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		change := rule.Change{Put: []rule.Rule{{ID: "r00000", When: fmt.Sprint("Celsius > ", i)}}}
		all = change.Apply(all)
		_, err := c.Set(all)
		require.NoError(b, err)
	}
}
