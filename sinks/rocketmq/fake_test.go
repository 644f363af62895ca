package rocketmq

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// fake is a name server and a broker in one, whose answers to batches a test decides: for what a real broker says rarely.
type fake struct {
	addr   string
	queues int
	// answer decides on the nth batch (from 0) to a queue; a negative code closes the connection, without an answer when
	// stored says so.
	answer func(queue, n int, bodies []string) (code int)

	// end decides on the nth END_TRANSACTION (from 0); nil is 0 for all.
	end func(n int) (code int)

	mu     sync.Mutex
	halves map[string]half1 // by offset
	ends   int
	tries  map[int]int
	stored map[int][]string // what was answered with code 0, or stored before the connection was closed (code -2)
}

func newFake(t *testing.T, queues int, answer func(queue, n int, bodies []string) int) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fake{addr: l.Addr().String(), queues: queues, answer: answer, tries: map[int]int{}, halves: map[string]half1{}, stored: map[int][]string{}}
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := []net.Conn{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer func() { _ = c.Close() }()
				for f.serve(c) == nil {
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return f
}

// got is what a queue holds.
func (f *fake) got(queue int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stored[queue])
}

func (f *fake) serve(c net.Conn) error {
	var sizes [8]byte
	if _, err := io.ReadFull(c, sizes[:]); err != nil {
		return err
	}
	rest := make([]byte, binary.BigEndian.Uint32(sizes[:])-4)
	if _, err := io.ReadFull(c, rest); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(sizes[4:])
	var req struct {
		Code, Opaque int
		ExtFields    map[string]string
	}
	if err := json.Unmarshal(rest[:n], &req); err != nil {
		return err
	}
	code, body, ext := f.handle(req.Code, req.ExtFields, rest[n:])
	if code < 0 {
		return io.EOF
	}
	remark := "scripted"
	if code == halfMissing {
		code, remark = rocketmq.SystemError, "Find prepared transaction message failed"
	}
	head, err := json.Marshal(map[string]any{"code": code, "flag": 1, "opaque": req.Opaque, "remark": remark, "version": 1, "extFields": ext})
	if err != nil {
		return err
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(4+len(head)+len(body)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(head)))
	_, err = c.Write(append(append(out, head...), body...))
	return err
}

// half1 is a half message at the fake.
type half1 struct {
	queue int
	body  string
}

// halfMissing is what the script of END_TRANSACTION says for a half message that was lost.
const halfMissing = 1000

func (f *fake) handle(code int, ext map[string]string, body []byte) (int, string, map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch code {
	case 34:
		return 0, "", nil
	case 105:
		return 0, fmt.Sprintf(`{"brokerDatas":[{"brokerAddrs":{0:"%s"},"brokerName":"a"}],"queueDatas":[{"brokerName":"a","perm":6,"readQueueNums":%d,"writeQueueNums":%d}]}`,
			f.addr, f.queues, f.queues), nil
	case 37:
		return f.endTransaction(ext), "", nil
	case 310:
		queue, _ := strconv.Atoi(ext["e"])
		answer := f.answer(queue, f.tries[queue], []string{string(body)})
		f.tries[queue]++
		if answer != 0 && answer != -2 {
			return answer, "", nil
		}
		if ext["f"] == "0" {
			f.stored[queue] = append(f.stored[queue], string(body))
			return answer, "", nil
		}
		at := len(f.halves)
		f.halves[strconv.Itoa(at)] = half1{queue, string(body)}
		return answer, "", map[string]string{"queueOffset": strconv.Itoa(at), "msgId": fmt.Sprintf("7F00000100002A9F%016X", at)}
	case 320:
		queue, _ := strconv.Atoi(ext["e"])
		var bodies []string
		for len(body) > 0 {
			size, err := rocketmq.BatchMessageSize(body)
			if err != nil {
				return rocketmq.SystemError, "", nil
			}
			b, _, err := rocketmq.BatchMessage(body[:size])
			if err != nil {
				return rocketmq.SystemError, "", nil
			}
			bodies = append(bodies, string(b))
			body = body[size:]
		}
		n := f.tries[queue]
		f.tries[queue]++
		answer := f.answer(queue, n, bodies)
		if answer == 0 || answer == -2 {
			f.stored[queue] = append(f.stored[queue], bodies...)
		}
		return answer, "", nil
	}
	return rocketmq.SystemError, "", nil
}

func (f *fake) endTransaction(ext map[string]string) int {
	n := f.ends
	f.ends++
	answer := 0
	if f.end != nil {
		answer = f.end(n)
	}
	if h, ok := f.halves[ext["commitLogOffset"]]; ok && (answer == 0 || answer == -2) && ext["commitOrRollback"] == "8" {
		f.stored[h.queue] = append(f.stored[h.queue], h.body)
	}
	return answer
}
