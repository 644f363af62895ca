package rocketmq

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server accepts connections and hands their requests to handle, which answers with a code, or not at all when it is negative.
type server struct {
	addr string
	l    net.Listener
	mu   sync.Mutex
	all  []net.Conn
	wait sync.WaitGroup
}

func serve(t *testing.T, handle func(code int, ext map[string]string) (int, string)) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return serveOn(t, l, handle)
}

func serveOn(t *testing.T, l net.Listener, handle func(code int, ext map[string]string) (int, string)) *server {
	s := &server{addr: l.Addr().String(), l: l}
	s.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.all = append(s.all, c)
			s.mu.Unlock()
			s.wait.Go(func() {
				for r := bufio.NewReader(c); answer(r, c, handle) == nil; {
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.drop()
		s.wait.Wait()
	})
	return s
}

// drop closes all connections.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.all {
		_ = c.Close()
	}
	s.all = nil
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func answer(r io.Reader, w io.Writer, handle func(int, map[string]string) (int, string)) error {
	var sizes [8]byte
	if _, err := io.ReadFull(r, sizes[:]); err != nil {
		return err
	}
	rest := make([]byte, binary.BigEndian.Uint32(sizes[:])-4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return err
	}
	var h header
	if err := json.Unmarshal(rest[:binary.BigEndian.Uint32(sizes[4:])], &h); err != nil {
		return err
	}
	code, body := handle(h.Code, h.ExtFields)
	if code < 0 {
		return nil
	}
	// First a notice, as brokers send them to registered consumers: it must not disturb.
	notice, _ := json.Marshal(header{Code: 40, Opaque: h.Opaque})
	head, _ := json.Marshal(header{Code: code, Opaque: h.Opaque, Flag: 1, ExtFields: h.ExtFields})
	var out []byte
	for _, f := range []struct{ head, body []byte }{{notice, nil}, {head, []byte(body)}} {
		out = binary.BigEndian.AppendUint32(out, uint32(4+len(f.head)+len(f.body)))
		out = binary.BigEndian.AppendUint32(out, uint32(len(f.head)))
		out = append(append(out, f.head...), f.body...)
	}
	_, err := w.Write(out)
	return err
}

func newClient(t *testing.T, servers ...string) *Client {
	c, err := New(Options{NameServers: servers, Timeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestCallersShareOneConnectionAndGetTheirOwnAnswers(t *testing.T) {
	s := serve(t, func(_ int, ext map[string]string) (int, string) { return 0, "body of " + ext["n"] })
	c := newClient(t, s.addr)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			n := string(rune('A' + i))
			for range 20 {
				r, err := c.Call(context.Background(), s.addr, Request{Code: 1, Ext: map[string]string{"n": n}})
				if err != nil || string(r.Body) != "body of "+n {
					t.Errorf("%v %v", r, err)
					return
				}
				r.Release()
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, s.connections())
}

// The client library waits out its timeout when the connection has died.
func TestADeadConnectionFailsItsRequestsAtOnce(t *testing.T) {
	asked := make(chan struct{}, 10)
	s := serve(t, func(code int, _ map[string]string) (int, string) {
		if code == 1 {
			asked <- struct{}{}
			return -1, ""
		}
		return 0, ""
	})
	c := newClient(t, s.addr)
	conn, err := c.Dial(t.Context(), s.addr)
	require.NoError(t, err)
	a, err := conn.Start(Request{Code: 1})
	require.NoError(t, err)
	b, err := conn.Start(Request{Code: 1})
	require.NoError(t, err)
	<-asked
	<-asked
	began := time.Now()
	s.drop()
	for _, call := range []*Call{a, b} {
		_, err = call.Wait(t.Context())
		require.ErrorContains(t, err, s.addr)
	}
	require.Less(t, time.Since(began), time.Second)
	require.Error(t, conn.Err())
	_, err = conn.Start(Request{Code: 2})
	require.Error(t, err)
	conn.Close()

	r, err := c.Call(t.Context(), s.addr, Request{Code: 2}) // a shared connection is made anew
	require.NoError(t, err)
	r.Release()
	s.drop()
	require.Eventually(t, func() bool {
		_, err = c.Call(t.Context(), s.addr, Request{Code: 2})
		require.True(t, err == nil || flow.IsTransient(err))
		return err == nil
	}, 5*time.Second, time.Millisecond)
}

func TestContextsEndWaitsAndLateAnswersAreDropped(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(code int, _ map[string]string) (int, string) {
		if code == 1 {
			<-release
		}
		return 0, "late"
	})
	c := newClient(t, s.addr)
	conn, err := c.Dial(t.Context(), s.addr)
	require.NoError(t, err)
	call, err := conn.Start(Request{Code: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = call.Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, conn.Err(), "the connection lives on")
	close(release)
	call, err = conn.Start(Request{Code: 2})
	require.NoError(t, err)
	r, err := call.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, "late", string(r.Body))
}

func TestASilentServerIsATransientErrorThatNamesIt(t *testing.T) {
	s := serve(t, func(int, map[string]string) (int, string) { return -1, "" })
	c, err := New(Options{NameServers: []string{s.addr}, Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Call(t.Context(), s.addr, Request{Code: 1})
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, s.addr+": no answer within 50ms")
}

func TestCloseFailsRequestsAndConnectionsUnderWay(t *testing.T) {
	asked := make(chan struct{}, 2)
	s := serve(t, func(int, map[string]string) (int, string) { asked <- struct{}{}; return -1, "" })
	c := newClient(t, s.addr)
	conn, err := c.Dial(t.Context(), s.addr)
	require.NoError(t, err)
	call, err := conn.Start(Request{Code: 1})
	require.NoError(t, err)
	shared := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), s.addr, Request{Code: 1})
		shared <- err
	}()
	<-asked
	<-asked
	c.Close()
	_, err = call.Wait(t.Context())
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, <-shared, net.ErrClosed)
	_, err = c.Call(t.Context(), s.addr, Request{Code: 1})
	require.ErrorIs(t, err, ErrClosed)
	require.False(t, flow.IsTransient(err))
	_, err = c.Dial(t.Context(), s.addr)
	require.ErrorIs(t, err, ErrClosed)
	c.Close()
}

func TestNameServersAreAskedOneAfterTheOther(t *testing.T) {
	route := `{"brokerDatas":[{"brokerAddrs":{0:"h:1",1:"h:2"},"brokerName":"b"},{"brokerAddrs":{1:"h:3"},"brokerName":"a"}],` +
		`"queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":2,"writeQueueNums":1},{"brokerName":"a","perm":4,"readQueueNums":1,"writeQueueNums":1}]}`
	s := serve(t, func(int, map[string]string) (int, string) { return 0, route })
	c := newClient(t, "127.0.0.1:1", s.addr)
	for range 2 {
		r, err := c.Route(t.Context(), "t")
		require.NoError(t, err)
		require.Equal(t, []Queue{{"a", 0}, {"b", 0}, {"b", 1}}, r.Readable)
		require.Equal(t, []Queue{{"b", 0}}, r.Writable, "a is read only")
		require.Equal(t, map[string]string{"b": "h:1"}, r.Masters, "slaves are not asked")
	}
	require.Equal(t, 1, c.server, "the one that answered goes first")
}

func TestATopicBeforeAnyBrokerHasRegisteredIsTransient(t *testing.T) {
	clusters := `{"brokerAddrTable":{}}`
	var mu sync.Mutex
	s := serve(t, func(code int, _ map[string]string) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if code == 105 {
			return TopicNotExist, ""
		}
		return 0, clusters
	})
	c := newClient(t, s.addr)
	_, err := c.Route(t.Context(), "t")
	require.True(t, flow.IsTransient(err))
	mu.Lock()
	clusters = `{"brokerAddrTable":{"b":{"brokerName":"b","brokerAddrs":{0:"h:1"}}}}`
	mu.Unlock()
	_, err = c.Route(t.Context(), "t")
	require.False(t, flow.IsTransient(err))
	require.True(t, IsCode(err, TopicNotExist))
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{
		{}, {NameServers: []string{"host"}}, {NameServers: []string{"h:1"}, Credentials: Credentials{AccessKey: "a"}},
	} {
		_, err := New(o)
		require.Error(t, err)
	}
}
