package fields_test

import (
	"encoding/json"
	"testing"

	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
)

func BenchmarkReading(b *testing.B) {
	data := []byte(`{"deviceId":"dev-0001234","ts":1699999980000,"temperature":21.53,"humidity":40.50,"fw":"1.4","seq":1000000000}`)
	spaced := []byte(`{"deviceId": "dev-0001234", "ts": 1699999980000, "temperature": 21.53, "humidity": 40.50, "fw": "1.4", "seq": 1000000000}`)
	mixed := []byte(`{"seq":1000000000,"fw":"1.4","humidity":40.50,"temperature":21.53,"ts":1699999980000,"deviceId":"dev-0001234"}`)
	for _, c := range []struct {
		name  string
		codec codec.Codec[Reading]
		data  []byte
	}{
		{"alias", ReadingCodec(fields.Alias()), data}, {"copy", ReadingCodec(), data}, {"spaces", ReadingCodec(fields.Alias()), spaced},
		{"other order", ReadingCodec(fields.Alias()), mixed}, {"codec.JSON", codec.JSON[Reading](), data},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v Reading
				if err := c.codec.Decode(c.data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			var v Reading
			if err := json.Unmarshal(data, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		c := ReadingCodec()
		v := Reading{"dev-0001234", 1699999980000, 21.53, 40.50, "1.4", 1000000000}
		buf := make([]byte, 0, 256)
		for b.Loop() {
			if _, err := c.Append(buf, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
