package rocketmq

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
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

// The short way takes what servers send, and says the same as encoding/json.
func FuzzHeader(f *testing.F) {
	ids := strings.Repeat("7F00000100002A9F0000000000000000,", 100)
	for i, plain := range []string{
		`{"code":0,"extFields":{"queueId":"1","msgId":"` + ids + `"},"flag":1,"language":"JAVA","opaque":17,"serializeTypeCurrentRPC":"JSON","version":501}`,
		`{"code":19,"flag":1,"opaque":-3,"remark":"NO_MATCHED_MESSAGE","extFields":{}}`,
		"{}",
		`{"code":1,"remark":"a \"quoted\" word"}`, `{"remark":"gr\u00fcn"}`, `{"remark":null}`, `{"CODE":2}`, `{"code":1.0}`, `{"code":01}`, `{"code":1}x`,
		`{"extFields":{"a":1}}`, `{"extFields":{"a":"b"},"extFields":{"c":"d"}}`, `{"code":1,}`, `[]`, ``, `{"new":true}`, `{"code":9999999999}`,
	} {
		f.Add([]byte(plain))
		if i < 3 {
			require.True(f, new(header).parse([]byte(plain)), plain)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var short, long header
		if !short.parse(b) {
			return
		}
		require.NoError(t, json.Unmarshal(b, &long))
		long.Language, long.Version = "", 0
		if len(short.ExtFields)+len(long.ExtFields) == 0 {
			short.ExtFields, long.ExtFields = nil, nil
		}
		require.Equal(t, long, short)
	})
}

func BenchmarkHeaderOfABatchAnswer(b *testing.B) {
	h := []byte(`{"code":0,"extFields":{"queueId":"1","msgId":"` + strings.Repeat("7F00000100002A9F0000000000000000,", 1024) + `"},"flag":1,"opaque":17}`)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			var head header
			if !head.parse(h) {
				b.Fatal("not plain")
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		for b.Loop() {
			var head header
			if err := json.Unmarshal(h, &head); err != nil {
				b.Fatal(err)
			}
		}
	})
}
