package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// raw is a codec that a line break gets through.
type raw struct{ codec.Codec[Number] }

func (r raw) Append(b []byte, v *Number) ([]byte, error) {
	if v.Note == "bad" {
		return b, errors.New("a bad number")
	}
	b, err := r.Codec.Append(b, v)
	if v.Note == "break" {
		b = append(b, '\n')
	}
	return b, err
}

// [test]
func TestContract(t *testing.T) {
	flowtest.SinkContract(t, flowtest.SinkSetup[Number]{
		New: func(t testing.TB) flowtest.SinkCase[Number] {
			file := filepath.Join(t.TempDir(), "journal")
			return flowtest.SinkCase[Number]{
				Sink:   func() flow.Sink[Number] { return Journal(file, raw{codec.JSON[Number]()}) },
				Stored: func(t testing.TB) []int { return stored(t, file) },
			}
		},
		Record: func(id int) Number { return Number{N: int64(id)} },
		Refused: map[string]func(id int) Number{
			"a line break":      func(id int) Number { return Number{N: int64(id), Note: "break"} },
			"no encoding of it": func(id int) Number { return Number{N: int64(id), Note: "bad"} },
		},
		Wrong: map[string]func() flow.Sink[Number]{"path": func() flow.Sink[Number] { return Journal("", codec.JSON[Number]()) }},
	})
}

// [end]

func stored(t testing.TB, file string) []int {
	t.Helper()
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var ids []int
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may still be being written
	for line := range bytes.Lines(text) {
		var n Number
		require.NoError(t, json.Unmarshal(line, &n), "%s", line)
		ids = append(ids, int(n.N))
	}
	return ids
}

func TestAnUnfinishedLineIsCutOff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	for _, text := range []string{"", "{\"n\":1", "{\"n\":0}\n", "{\"n\":0}\n{\"n\":1", "{\"n\":0}\n" + string(bytes.Repeat([]byte("x"), 100_000))} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		s := Journal(file, codec.JSON[Number]())
		require.NoError(t, s.Open(t.Context(), flow.SinkRuntime{}))
		w, err := s.Writer(t.Context(), flow.TaskInfo{})
		require.NoError(t, err)
		require.NoError(t, w.Write(t.Context(), []flow.Record[Number]{{Value: Number{N: 7}}}))
		blocks, err := w.Seal(t.Context())
		require.NoError(t, err)
		_, err = s.Deliver(t.Context(), blocks)
		require.NoError(t, err)
		require.NoError(t, s.Close(t.Context()))
		want := []int{7}
		if bytes.Contains([]byte(text), []byte("\n")) {
			want = []int{0, 7}
		}
		require.Equal(t, want, stored(t, file))
	}
}

// A disk that was full for a while: nothing is lost, and nothing comes twice.
func TestAFailedWriteIsTakenBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	s := Journal(file, codec.JSON[Number]()).(*journal[Number])
	require.NoError(t, s.Open(t.Context(), flow.SinkRuntime{}))
	defer func() { require.NoError(t, s.Close(t.Context())) }()
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), []flow.Record[Number]{{Value: Number{N: 1}}, {Value: Number{N: 2}}}))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	good := s.file
	s.file, err = os.Open(file) // for reading only
	require.NoError(t, err)
	_, err = s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err), "%v", err)
	require.NoError(t, s.file.Close())
	s.file = good
	_, err = good.WriteAt([]byte("{\"n\":"), 0) // half of it got through
	require.NoError(t, err)
	for range 2 {
		_, err = s.Deliver(t.Context(), blocks)
		require.NoError(t, err)
	}
	require.Equal(t, []int{1, 2}, stored(t, file))
}
