package rocketmq

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxPayload bounds what a compressed body may grow to.
const maxPayload = 64 << 20

// decompress undoes a producer's compression, whose kind is in bits 8 to 10 of the system flag: none said is zlib, which was
// the only one before 5.0.
func decompress(body []byte, sysFlag int32) ([]byte, error) {
	var r io.Reader
	switch kind := sysFlag >> 8 & 7; kind {
	case 0, 3:
		z, err := zlib.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("rocketmq: decompress: %w", err)
		}
		r = z
	case 1:
		r = lz4.NewReader(bytes.NewReader(body))
	case 2:
		z, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("rocketmq: decompress: %w", err)
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("rocketmq: decompress: unknown compression %d", kind)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("rocketmq: decompress: %w", err)
	}
	if len(out) > maxPayload {
		return nil, fmt.Errorf("rocketmq: decompress: more than %d bytes", maxPayload)
	}
	return out, nil
}
