package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
)

func TestRawPayloadsAreCopied(t *testing.T) {
	t.Parallel()
	data := []byte("a\xff\x00")
	var b []byte
	var s string
	require.NoError(t, codec.Bytes().Decode(data, &b))
	require.NoError(t, codec.String().Decode(data, &s))
	data[0] = 'z'
	require.Equal(t, "a\xff\x00", string(b))
	require.Equal(t, "a\xff\x00", s)
	out, err := codec.String().Append([]byte("> "), &s)
	require.NoError(t, err)
	require.Equal(t, "> a\xff\x00", string(out))
	require.NoError(t, codec.Bytes().Decode(nil, &b))
	require.NotNil(t, b)
	require.Empty(t, b)
	require.Equal(t, [3]string{"json", "bytes", "string"}, [3]string{codec.JSON[int]().ID(), codec.Bytes().ID(), codec.String().ID()})
}
