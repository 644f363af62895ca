package columns_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/sources/lookup/internal/columns"
)

type Base struct {
	DeviceID string
	HTTPPort uint16
}

type row struct {
	Base
	Address netip.Addr
	At      time.Time `col:"seen"`
	Every   *time.Duration
	Raw     []byte
	Ratio   float32
	On      bool
	Level   int8
	hidden  int
	Skipped map[string]int `col:"-"`
}

func TestNames(t *testing.T) {
	t.Parallel()
	p, err := columns.Of[row]("col")
	require.NoError(t, err)
	require.Equal(t, []string{"device_id", "http_port", "address", "seen", "every", "raw", "ratio", "on", "level"}, p.Names())
	require.False(t, p.Single())
	require.NoError(t, p.Textual(reflect.TypeFor[row]()))
	for _, single := range []func(string) (*columns.Plan, error){columns.Of[string], columns.Of[time.Time], columns.Of[netip.Addr], columns.Of[*row]} {
		p, err := single("col")
		require.NoError(t, err)
		require.True(t, p.Single())
	}
	_, err = columns.Of[struct {
		a int `col:"a"`
	}]("col")
	require.ErrorContains(t, err, "not exported: export it")
	require.Zero(t, row{}.hidden)
}

func TestSetText(t *testing.T) {
	t.Parallel()
	p, err := columns.Of[row]("col")
	require.NoError(t, err)
	r, err := p.Resolve(append(p.Names(), "more"), true)
	require.NoError(t, err)
	good := []string{"d1", "8080", "::1", "2024-05-06T07:08:09Z", "1m30s", "raw", "0.5", "true", "-8", "anything"}
	var got row
	require.NoError(t, r.SetText(&got, good))
	every := 90 * time.Second
	require.Equal(t, row{
		Base: Base{"d1", 8080}, Address: netip.IPv6Loopback(), At: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC),
		Every: &every, Raw: []byte("raw"), Ratio: 0.5, On: true, Level: -8,
	}, got)
	for i, bad := range []string{"", "65536", "nowhere", "today", "soon", "", "much", "perhaps", "128"} {
		if bad == "" {
			continue
		}
		texts := append([]string(nil), good...)
		texts[i] = bad
		require.ErrorContains(t, r.SetText(&got, texts), `column "`+p.Names()[i]+`": "`+bad+`" is no `)
	}
	good[4] = ""
	got = row{}
	require.NoError(t, r.SetText(&got, good))
	require.Nil(t, got.Every)
}
