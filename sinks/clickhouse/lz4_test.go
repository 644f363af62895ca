package clickhouse

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/stretchr/testify/require"
)

// frames are decoded by ch-go's reader, with the checksums checked.
func requireFrames(t *testing.T, z *lz4Frames, raw []byte) {
	t.Helper()
	frame := bytes.Clone(z.frame(raw))
	r := compress.NewReader(bytes.NewReader(frame))
	got := make([]byte, len(raw))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "more came back than went in")
	require.True(t, bytes.Equal(raw, got), "%d bytes came back otherwise", len(raw))
	require.LessOrEqual(t, len(frame), lz4Head+len(raw)+len(raw)/255+16)
}

func TestLZ4Frames(t *testing.T) {
	t.Parallel()
	z := &lz4Frames{}
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 300; n++ {
		requireFrames(t, z, bytes.Repeat([]byte{7}, n))
		noise := make([]byte, n)
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		requireFrames(t, z, noise)
		requireFrames(t, z, append(noise, noise...)) // matches with long literals in front
	}
	var column []byte
	for i := range uint64(frameSize / 8) {
		column = binary.LittleEndian.AppendUint64(column, 1_700_000_000_000+i)
	}
	requireFrames(t, z, column)
	require.Less(t, len(z.frame(column)), len(column)*6/10)
	// Matches farther back than the format can say.
	far := make([]byte, 70_000)
	for i := range far {
		far[i] = byte(r.Uint32())
	}
	requireFrames(t, z, append(far, far...))
	requireFrames(t, z, append(far[:1<<16-1], far...))
	requireFrames(t, z, append(far[:1<<16], far...))
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte("dev-0000001dev-0000002dev-0000003"), uint16(3))
	f.Add([]byte{0}, uint16(1000))
	f.Fuzz(func(t *testing.T, unit []byte, repeats uint16) {
		if len(unit) == 0 {
			return
		}
		raw := bytes.Repeat(unit, 1+int(repeats)%2000)
		raw = raw[:min(len(raw), frameSize)]
		requireFrames(t, &lz4Frames{}, raw)
	})
}
