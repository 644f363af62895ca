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
