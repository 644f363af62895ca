package rule

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

type sample struct {
	Key string
	N   int
}

func tracker(t testing.TB, yaml string) *Tracker[string, sample] {
	t.Helper()
	set, err := Load[sample]("r", []byte(yaml))
	require.NoError(t, err)
	tr := NewTracker[string, sample](codec.CBOR[sample](), nil)
	tr.Use(set)
	return tr
}

// A book that was stored is the same.
func TestBookIsStoredWhole(t *testing.T) {
	t.Parallel()
	const rules = `
- {id: a, when: N > 1, labels: {x: "{{.Key}}", y: z}, message: "{{.Record.N}}", update: N, flapping: {changes: 2, within: 10m}}
- {id: b, when: N > 2, for: 1h, count: 3, parent: a}
- {id: c, when: N > 3, cooldown: 1h}
`
	tr := tracker(t, rules)
	b := &Book{}
	for i, n := range []int{5, 1, 5, 7, 1, 9} {
		device := ""
		if i%2 == 0 {
			device = "d"
		}
		tr.Record(b, "k", device, &sample{"k", n}, flow.TimestampOf(time.Unix(int64(i), 0)), flow.None)
	}
	require.Greater(t, b.Len(), 3)
	data := b.Append(nil)
	back := &Book{}
	rest, err := back.Read(append(data, 7))
	require.NoError(t, err)
	require.Equal(t, []byte{7}, rest)
	require.False(t, tr.Turn(back, "k", 0))
	b.Timer = flow.None
	require.Equal(t, b, back)
	for n := range len(data) {
		_, err := new(Book).Read(data[:n])
		require.ErrorIs(t, err, errBook)
	}
}

func FuzzBook(f *testing.F) {
	tr := tracker(f, "- {id: a, when: N > 1, labels: {x: y}}\n- {id: b, when: N > 2, for: 1h}")
	b := &Book{}
	tr.Record(b, "k", "d", &sample{"k", 5}, 7, flow.None)
	f.Add(b.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &Book{}
		if _, err := b.Read(data); err == nil {
			again := &Book{}
			_, err := again.Read(b.Append(nil))
			require.NoError(t, err)
		}
	})
}

// A record that no rule's condition is true for costs no allocation; nor does one that changes nothing of a raised alarm.
func TestRecordAllocatesNothing(t *testing.T) {
	yaml := ""
	for i := range 100 {
		yaml += fmt.Sprintf("- {id: r%d, when: N > %d && Key != 'x', select: {Key: [k%d, k%d]}}\n", i, i, i%10, (i+1)%10)
	}
	tr := tracker(t, yaml)
	b := &Book{}
	cold, hot := sample{"k3", 0}, sample{"k3", 50}
	require.Zero(t, testing.AllocsPerRun(100, func() { tr.Record(b, "k3", "", &cold, 1, flow.None) }))
	tr.Record(b, "k3", "", &hot, 2, flow.None)
	require.Equal(t, 10, b.Len())
	at := flow.Timestamp(3)
	require.Zero(t, testing.AllocsPerRun(100, func() { tr.Record(b, "k3", "", &hot, at, flow.None); at++ }))
	require.Len(t, tr.Alarms, 10)
}

func second(n int64) flow.Timestamp { return flow.TimestampOf(time.Unix(n, 0)) }

// Records may be pointers; one that is nil is passed over.
func TestRecordsThatArePointers(t *testing.T) {
	t.Parallel()
	set, err := Load[*sample]("r", []byte("- {id: a, when: N > 1, for: 10s, message: '{{.Record.N}}'}\n- {id: b, when: N * N > 10 || len(Key) > 3, select: {Key: k}}"))
	require.NoError(t, err)
	tr := NewTracker[string, *sample](codec.CBOR[*sample](), nil)
	tr.Use(set)
	b := &Book{}
	var none *sample
	require.False(t, tr.Record(b, "k", "", &none, second(0), flow.None))
	s := &sample{"k", 7}
	require.True(t, tr.Record(b, "k", "", &s, second(0), flow.None))
	s = &sample{"k", 0}
	require.Equal(t, second(10), b.Next())
	tr.Due(b, "k", second(10))
	require.Len(t, tr.Alarms, 2)
	require.Equal(t, "b", tr.Alarms[0].Rule)
	require.Equal(t, "7", tr.Alarms[1].Message)
	require.Equal(t, &sample{"k", 7}, tr.Alarms[1].Value)
	tr.Record(b, "k", "", &s, second(11), flow.None)
	require.True(t, b.Empty())
	require.Zero(t, tr.Counts)
}

// A parent that is raised by the same record comes first, whatever it selects by.
func TestParentsComeFirst(t *testing.T) {
	t.Parallel()
	tr := tracker(t, "- {id: a, when: N > 1, parent: b, select: {Key: k}}\n- {id: b, when: N > 2, parent: c}\n- {id: c, when: N > 3, select: {N: [3, 4]}}")
	b := &Book{}
	tr.Record(b, "k", "", &sample{"k", 4}, second(0), flow.None)
	require.Len(t, tr.Alarms, 1)
	require.Equal(t, "c", tr.Alarms[0].Rule)
	require.EqualValues(t, 2, tr.Counts.Suppressed)
}

// A clock that was set back lets no record be passed over.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	tr := tracker(t, "- {id: a, when: N > 1}")
	tr.ByClock = true
	b := &Book{}
	tr.Record(b, "k", "", &sample{"k", 4}, second(100), flow.None)
	tr.Record(b, "k", "", &sample{"k", 0}, second(50), flow.None)
	require.Len(t, tr.Alarms, 2)
	require.Equal(t, second(100), tr.Alarms[1].At)
	require.True(t, b.Empty())
}

func TestYAMLAnchors(t *testing.T) {
	t.Parallel()
	set, err := Load[sample]("r", []byte(`
rules:
  - &base
    id: a
    when: N > 1
    for: &long 1h
    labels: &labels {team: x}
  - <<: *base
    id: b
    cooldown: *long
  - {id: c, when: N > 2, labels: *labels}
  - {id: d, <<: *base}
`))
	require.NoError(t, err)
	require.Equal(t, 4, set.Len())
	require.Equal(t, time.Hour, set.byID["b"].Cooldown)
	require.Equal(t, time.Hour, set.byID["b"].For)
	require.Equal(t, map[string]string{"team": "x"}, set.byID["c"].Labels)
	require.Equal(t, "N > 1", set.byID["d"].When)
	_, err = Load[sample]("r", []byte("- {id: a, when: N > 1, id: b}"))
	require.ErrorContains(t, err, "id")
	_, err = Load[sample]("r", []byte("- id: a\n  when: N > 1\n  labels: {a: b, a: c}"))
	require.ErrorContains(t, err, "r:3:")
}

// An alarm that is raised after a change has the new version, also where the rule remembered a cooldown.
func TestVersionAfterAChange(t *testing.T) {
	t.Parallel()
	tr := tracker(t, "- {id: a, when: N > 1, cooldown: 10s, version: one}")
	b := &Book{}
	for i, n := range []int{5, 0} {
		tr.Record(b, "k", "", &sample{"k", n}, second(int64(i)), flow.None)
	}
	set, err := Load[sample]("r", []byte("- {id: a, when: N > 2, cooldown: 10s, version: two}"))
	require.NoError(t, err)
	tr.Use(set)
	require.True(t, tr.Turn(b, "k", second(1)))
	require.Equal(t, second(11), b.Next())
	tr.Record(b, "k", "", &sample{"k", 5}, second(5), flow.None)
	tr.Due(b, "k", second(11))
	require.Len(t, tr.Alarms, 3)
	require.Equal(t, []string{"one", "one", "two"}, []string{tr.Alarms[0].Version, tr.Alarms[1].Version, tr.Alarms[2].Version})
	require.Equal(t, second(11), tr.Alarms[2].At)
}
