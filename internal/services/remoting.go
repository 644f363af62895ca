package services

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Request codes of RocketMQ's remoting protocol.
const (
	createTopic    = 17
	getRoute       = 105
	getClusterInfo = 106
)

// remoteAnswer is the answer of a RocketMQ server to one request.
type remoteAnswer struct {
	Code   int               `json:"code"`
	Remark string            `json:"remark"`
	Ext    map[string]string `json:"extFields"`
	body   []byte
}

// remote sends one request to a RocketMQ server and returns fields and body of the answer. It is all that ready checks need;
// it is not a client.
//
// A frame is: length of the rest, length of the header (its top byte 0 for JSON), header, body.
func remote(ctx context.Context, addr string, code int, ext map[string]string, body []byte) (remoteAnswer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return remoteAnswer{}, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return remoteAnswer{}, err
	}
	header, err := json.Marshal(map[string]any{
		"code": code, "language": "GO", "version": 0, "opaque": 1, "flag": 0, "extFields": ext,
	})
	if err != nil {
		return remoteAnswer{}, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	if _, err := conn.Write(slices.Concat(frame, header, body)); err != nil {
		return remoteAnswer{}, err
	}
	answer, err := readFrame(conn)
	if err != nil {
		return remoteAnswer{}, err
	}
	if len(answer) < 4 {
		return remoteAnswer{}, fmt.Errorf("%s: answer of %d bytes", addr, len(answer))
	}
	n := int(binary.BigEndian.Uint32(answer) & 0xffffff)
	if n > len(answer)-4 {
		return remoteAnswer{}, fmt.Errorf("%s: header of %d bytes in an answer of %d", addr, n, len(answer))
	}
	var result remoteAnswer
	if err := json.Unmarshal(answer[4:4+n], &result); err != nil {
		return remoteAnswer{}, fmt.Errorf("%s: %w", addr, err)
	}
	if result.Code != 0 {
		return remoteAnswer{}, fmt.Errorf("%s: request %d: code %d: %s", addr, code, result.Code, result.Remark)
	}
	result.body = answer[4+n:]
	return result, nil
}

// readFrame reads a four-byte length and as many bytes. RocketMQ and Kafka both frame so.
func readFrame(r io.Reader) ([]byte, error) {
	const limit = 16 << 20
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > limit {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}
