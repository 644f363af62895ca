package rocketmq

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func TestNumericKeysOfOldServersAreQuoted(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":{0:"x:1",12:"y"},"b":[1,2]}`:      `{"a":{"0":"x:1","12":"y"},"b":[1,2]}`,
		`{"s":"{0:1,2:\"3\",4:5}","t":{"0":1}}`: `{"s":"{0:1,2:\"3\",4:5}","t":{"0":1}}`,
		`{}`:                                    `{}`,
	} {
		got := quoteKeys([]byte(in))
		require.Equal(t, want, string(got))
		require.True(t, json.Valid(got))
	}
}

func TestForeignServersAreToldApart(t *testing.T) {
	for name, in := range map[string]string{
		"HTTP":       "HTTP/1.1 400 Bad Request\r\n",
		"header":     "\x00\x00\x00\x10\x00\x00\x00\x20{}              ",
		"encoding":   "\x00\x00\x00\x10\x01\x00\x00\x02{}              ",
		"cut":        "\x00\x00\x00\x10\x00\x00\x00\x02{}",
		"not JSON":   "\x00\x00\x00\x06\x00\x00\x00\x02{x",
		"empty size": "\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		_, err := readFrame(bufio.NewReader(bytes.NewReader([]byte(in))))
		require.Error(t, err, name)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08\x00\x00\x00\x02{}body"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := readFrame(bufio.NewReader(bytes.NewReader(in))); err == nil {
			r.Release()
		}
	})
}

func FuzzQuoteKeys(f *testing.F) {
	f.Add([]byte(`{"a":{0:"b"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if json.Valid(in) {
			require.Equal(t, string(in), string(quoteKeys(in)))
		}
	})
}

// The vector is the client library's: HMAC-SHA1 of all values by name, then the body.
func TestSignature(t *testing.T) {
	c := Credentials{AccessKey: "Hello", SecretKey: "adiaushdiaushd"}
	ext := c.sign(Request{Ext: map[string]string{"b": " RocketMQ Client", "c": " ACL"}, Body: [][]byte{[]byte(" Fea"), []byte("ture")}})
	require.Equal(t, "tAb/54Rwwcq+pbH8Loi7FWX4QSQ=", ext["Signature"])
	require.Equal(t, "Hello", ext["AccessKey"])
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := Credentials{AccessKey: "ak", SecretKey: "topsecret", SecurityToken: "token77"}
	j, err := json.Marshal(c)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", c.SecretKey, "all", c)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s", c, c, c.SecretKey), string(j), log.String()} {
		require.NotContains(t, s, "topsecret")
		require.NotContains(t, s, "token77")
	}
}

func TestBadPropertiesAndBodiesAreRefused(t *testing.T) {
	for _, p := range [][2]string{{"", "v"}, {"n", ""}, {"n", "a\x01b"}, {"n", "a\x02b"}, {"n\x01", "v"}, {"\x02n", "v"}} {
		b, err := AppendProperty([]byte("kept"), p[0], p[1])
		require.Error(t, err, "%q", p)
		require.Equal(t, "kept", string(b))
	}
	_, err := AppendMessage(nil, nil, nil)
	require.ErrorIs(t, err, ErrEmptyBody)
	_, err = AppendMessage(nil, []byte("b"), make([]byte, MaxProperties+1))
	require.ErrorContains(t, err, "properties of")
}

func TestServerErrorsAreClassedWithTheirCure(t *testing.T) {
	for code, transient := range map[int]bool{
		SystemError: true, SystemBusy: true, FlushDiskTimeout: true, SlaveNotAvailable: true, FlushSlaveTimeout: true,
		ServiceNotAvailable: true, 9999: true,
		MessageIllegal: false, NoPermission: false, TopicNotExist: false, GroupNotExist: false, VersionNotSupported: false,
	} {
		err := (&Response{Code: code, Remark: "why ", Addr: "1.2.3.4:5"}).Err()
		require.Equal(t, transient, flow.IsTransient(err), "code %d", code)
		require.True(t, IsCode(err, code))
		require.ErrorContains(t, err, fmt.Sprintf("1.2.3.4:5: code %d: why", code))
	}
	denied := (&Response{Code: SystemError, Remark: "org.apache.rocketmq.acl.common.AclException: No acl config for ak"}).Err()
	require.False(t, flow.IsTransient(denied))
	require.ErrorContains(t, denied, "access_key")
	require.NoError(t, (&Response{}).Err())
}
