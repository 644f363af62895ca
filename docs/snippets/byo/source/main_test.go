package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	deadline = 10 * time.Second
	tick     = 5 * time.Millisecond
)

type line struct {
	ID  int    `json:"id"`
	Pad string `json:"pad,omitempty"`
}

// [test]
func TestContract(t *testing.T) {
	flowtest.SourceContract(t, flowtest.SourceSetup[line]{
		New: func(t testing.TB) flowtest.SourceCase[line] {
			dir := t.TempDir()
			return flowtest.SourceCase[line]{
				Source: func() flow.Source[line] { return Lines(dir, codec.JSON[line]()) },
				Publish: func(t testing.TB, ids []int) { // two files, in turn
					var text [2]strings.Builder
					for _, id := range ids {
						fmt.Fprintf(&text[id%2], `{"id":%d}`+"\n", id)
					}
					write(t, filepath.Join(dir, "0.log"), text[0].String())
					write(t, filepath.Join(dir, "1.log"), text[1].String())
				},
				Poison: func(t testing.TB, payload []byte) {
					write(t, filepath.Join(dir, "0.log"), string(payload)+"\n")
				},
				Large: func(t testing.TB, ids []int, bytes int) {
					for _, id := range ids {
						write(t, filepath.Join(dir, "0.log"), fmt.Sprintf(`{"id":%d,"pad":%q}`+"\n", id, strings.Repeat("x", bytes)))
					}
				},
			}
		},
		ID: func(l line) int { return l.ID },
		Wrong: map[string]func() flow.Source[line]{
			"dir":   func() flow.Source[line] { return Lines("", codec.JSON[line]()) },
			"codec": func() flow.Source[line] { return Lines[line]("logs", aliasing{codec.JSON[line]()}) },
		},
		MaxHeap: 8 << 20, // the mebibyte that is read at once, and its batch
	})
}

// [end]

type aliasing struct{ codec.Codec[line] }

func (aliasing) AliasesPayload() bool { return true }

func write(t testing.TB, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// run reads a directory in a topology of the scripted clock's, and gives what it says when it ends.
func run(t *testing.T, dir string) (*flowtest.Run, *flowtest.Sink[string]) {
	out := flowtest.NewSink[string]()
	return flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("lines", opts...)
		flow.To(flow.From(top, "in", Lines(dir, codec.String())), "out", out)
		return top
	}), out
}

func TestALineInTheMakingIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.log")
	write(t, file, "one\ntw")
	r, out := run(t, dir)
	require.Eventually(t, func() bool { r.Clock.Advance(poll); r.Epoch(); return len(out.Values()) == 1 }, deadline, tick)
	write(t, file, "o\n")
	require.Eventually(t, func() bool { r.Clock.Advance(poll); r.Epoch(); return len(out.Values()) == 2 }, deadline, tick)
	require.Equal(t, []string{"one", "two"}, out.Values())
}

func TestAFileThatShrinksStopsWithTheCure(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.log")
	write(t, file, "one\n")
	r, out := run(t, dir)
	require.Eventually(t, func() bool { r.Clock.Advance(poll); r.Epoch(); return len(out.Values()) == 1 }, deadline, tick)
	require.NoError(t, os.Truncate(file, 0))
	require.Eventually(t, func() bool {
		r.Clock.Advance(poll)
		return r.Running().Err() != nil
	}, deadline, tick)
	require.ErrorContains(t, r.Wait(), "give a new file a new name")
}

func TestALineWithoutAnEndStopsWithTheCure(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.log"), string(bytes.Repeat([]byte("x"), maxLine)))
	r, _ := run(t, dir)
	require.ErrorContains(t, r.Wait(), "split it")
}
