package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ flowtest.Network = (*Proxy)(nil)
	_ flowtest.Network = Group(nil)
)

// echo is a server that answers each line by the line, and counts them.
type echo struct {
	addr  string
	lines chan string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &echo{addr: l.Addr().String(), lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					e.lines <- line
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return e
}

type client struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(line string) {
	c.t.Helper()
	_, err := io.WriteString(c.c, line+"\n")
	require.NoError(c.t, err)
}

func (c *client) answer(within time.Duration) (string, error) {
	_ = c.c.SetReadDeadline(time.Now().Add(within))
	return c.r.ReadString('\n')
}

func (c *client) works() {
	c.t.Helper()
	c.send("hello")
	line, err := c.answer(5 * time.Second)
	require.NoError(c.t, err)
	require.Equal(c.t, "hello\n", line)
}

func setup(t *testing.T) (*Proxy, *echo, *client) {
	e := newEcho(t)
	p := New(t, e.addr)
	c := dial(t, p.Addr())
	c.works()
	<-e.lines
	return p, e, c
}

func TestCut(t *testing.T) {
	p, e, c := setup(t)
	p.Cut()
	_, err := c.answer(time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = net.DialTimeout("tcp", p.Addr(), time.Second)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	p.Restore()
	dial(t, p.Addr()).works()
	require.Len(t, e.lines, 1)
}

func TestReset(t *testing.T) {
	p, _, c := setup(t)
	p.Reset()
	_, err := c.answer(time.Second)
	require.Error(t, err)
	again := dial(t, p.Addr())
	again.send("lost")
	_, err = again.answer(time.Second)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF), err)
	p.Restore()
	dial(t, p.Addr()).works()
}

func TestHalfOpen(t *testing.T) {
	p, e, c := setup(t)
	p.HalfOpen()
	c.send("lost")
	_, err := c.answer(100 * time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Empty(t, e.lines)
	dial(t, p.Addr()).send("lost too")
	p.Restore()
	_, err = c.answer(time.Second)
	require.ErrorIs(t, err, io.EOF)
	dial(t, p.Addr()).works()
}

func TestDropAnswers(t *testing.T) {
	p, e, c := setup(t)
	p.DropAnswers()
	c.send("done")
	require.Equal(t, "done\n", <-e.lines)
	_, err := c.answer(100 * time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	p.Restore()
	_, err = c.answer(time.Second)
	require.ErrorIs(t, err, io.EOF)
	dial(t, p.Addr()).works()
}

func TestSlowKeepsConnections(t *testing.T) {
	p, _, c := setup(t)
	p.Slow()
	began := time.Now()
	c.works()
	require.GreaterOrEqual(t, time.Since(began), 2*latency)
	p.Restore()
	c.works()
	sent, received := p.Carried()
	require.EqualValues(t, 18, sent)
	require.EqualValues(t, 18, received)
}

// A side that goes away while the other one sends leaves nothing behind, whatever the fault: TestMain looks.
func TestNobodyReads(t *testing.T) {
	for _, fault := range []func(*Proxy){(*Proxy).Cut, (*Proxy).Reset, (*Proxy).HalfOpen, (*Proxy).DropAnswers, (*Proxy).Slow, (*Proxy).Restore} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			for {
				if _, err := fmt.Fprintln(c, "and so on"); err != nil {
					return
				}
			}
		}()
		p := New(t, l.Addr().String())
		c := dial(t, p.Addr())
		_, err = c.answer(time.Second)
		require.NoError(t, err)
		fault(p)
		require.NoError(t, c.c.Close())
		p.Restore()
		<-ended
		require.NoError(t, l.Close())
	}
}

func TestGroup(t *testing.T) {
	one, two, bare := newEcho(t), newEcho(t), newEcho(t)
	g := Group{New(t, one.addr), New(t, two.addr)}
	connect := func(addr string) (*client, error) {
		c, err := g.Dial(t.Context(), addr)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = c.Close() })
		return &client{t, c, bufio.NewReader(c)}, nil
	}
	for _, e := range []*echo{one, two, bare} {
		c, err := connect(e.addr)
		require.NoError(t, err)
		c.works()
	}
	sent, _ := g[1].Carried()
	require.EqualValues(t, 6, sent)
	g.Cut()
	for _, e := range []*echo{one, two} {
		_, err := connect(e.addr)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	c, err := connect(bare.addr)
	require.NoError(t, err)
	c.works()
	g.Restore()
	c, err = connect(two.addr)
	require.NoError(t, err)
	c.works()
}
