// Package faults breaks the network between a connector and its system, for the contract suites of package flowtest.
//
// A [Proxy] is a toxiproxy in the test's process. Its faults are a toxic of our own: those of toxiproxy leave goroutines
// behind when one side goes away while the other one is sending, and can wait for ever to be taken off such a connection.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// Proxy hands TCP connections on to one server, and breaks them when it is told to. It implements flowtest.Network. A fault
// holds until Restore or the next one. Its methods may be called by any goroutine, one at a time.
type Proxy struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
	pipes sync.WaitGroup

	mu      sync.Mutex
	mode    mode
	changed chan struct{} // closed when mode changes
	drain   chan struct{} // closed when the connections of now have to end
	bytes   [2]int64      // carried, by direction
}

// mode is what happens to what is sent.
type mode int

const (
	passing mode = iota
	vanishing
	answersVanish
	slowly
)

const (
	// latency and rate are those of a slow network: a delay for each piece, and bytes per second.
	latency = 50 * time.Millisecond
	rate    = 256 << 10
	// resetAfter is how long a connection lives behind its first byte while Reset holds.
	resetAfter = 50
)

// New starts a proxy in front of a server (host:port) on a free port of this machine. It ends with the test.
func New(t testing.TB, server string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, changed: make(chan struct{}), drain: make(chan struct{})}
	toxics.Register(toxicType, new(toxic))
	p.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), t.Name(), "127.0.0.1:0", server)
	for _, d := range []stream.Direction{stream.Upstream, stream.Downstream} {
		w := p.add(toxicType, d, nil)
		own, ok := w.Toxic.(*toxic)
		if !ok {
			t.Fatalf("faults: toxiproxy made a %T", w.Toxic)
		}
		own.p, own.direction = p, d
	}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("faults: %v", err)
	}
	t.Cleanup(func() {
		p.stop()
		p.pipes.Wait()
	})
	return p
}

// Addr is where the connector has to connect to, host:port. It stays the same over all faults.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// Carried is how many bytes have gone to the server and come from it so far.
func (p *Proxy) Carried() (sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[stream.Upstream], p.bytes[stream.Downstream]
}

// Cut closes all connections and refuses new ones.
func (p *Proxy) Cut() { p.stop() }

// Reset closes all connections and resets each new one 50 ms after its first byte.
func (p *Proxy) Reset() {
	p.stop()
	for _, d := range []stream.Direction{stream.Upstream, stream.Downstream} {
		p.add("reset_peer", d, map[string]int64{"timeout": resetAfter})
	}
	p.start()
}

// HalfOpen lets connections stand and carries nothing.
func (p *Proxy) HalfOpen() { p.set(vanishing) }

// DropAnswers carries what the connector sends and nothing of what the server answers.
func (p *Proxy) DropAnswers() { p.set(answersVanish) }

// Slow delays each piece by 50 ms and carries 256 KiB a second in each direction.
func (p *Proxy) Slow() { p.set(slowly) }

// Restore makes all well for new connections. Those that have lost something are closed.
func (p *Proxy) Restore() {
	p.mu.Lock()
	whole := p.mode == slowly && p.proxy.Enabled
	p.mu.Unlock()
	if whole {
		p.set(passing)
		return
	}
	p.stop()
	p.start()
}

// stop closes the listener and all connections.
func (p *Proxy) stop() {
	p.mu.Lock()
	close(p.drain)
	p.drain = make(chan struct{})
	p.mu.Unlock()
	p.proxy.Stop()
	for _, d := range []string{"reset_peer_upstream", "reset_peer_downstream"} {
		if p.proxy.Toxics.GetToxic(d) == nil {
			continue
		}
		if err := p.proxy.Toxics.RemoveToxic(p.t.Context(), d); err != nil {
			p.t.Errorf("faults: %v", err)
		}
	}
	p.set(passing)
}

// start listens again on the port of before.
func (p *Proxy) start() {
	if err := p.proxy.Start(); err != nil {
		p.t.Errorf("faults: listen on %s again: %v", p.proxy.Listen, err)
	}
}

func (p *Proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

// add adds a toxic to a direction.
func (p *Proxy) add(kind string, d stream.Direction, attributes map[string]int64) *toxics.ToxicWrapper {
	text, err := json.Marshal(map[string]any{"type": kind, "stream": d.String(), "attributes": attributes})
	if err != nil {
		p.t.Fatalf("faults: %v", err)
	}
	w, err := p.proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	if err != nil {
		p.t.Fatalf("faults: toxic %s: %v", kind, err)
	}
	return w
}

// Group is several proxies that break together: those of all addresses of one system.
type Group []*Proxy

// Cut does so to all.
func (g Group) Cut() { g.each((*Proxy).Cut) }

// Reset does so to all.
func (g Group) Reset() { g.each((*Proxy).Reset) }

// HalfOpen does so to all.
func (g Group) HalfOpen() { g.each((*Proxy).HalfOpen) }

// DropAnswers does so to all.
func (g Group) DropAnswers() { g.each((*Proxy).DropAnswers) }

// Slow does so to all.
func (g Group) Slow() { g.each((*Proxy).Slow) }

// Restore does so to all.
func (g Group) Restore() { g.each((*Proxy).Restore) }

func (g Group) each(f func(*Proxy)) {
	for _, p := range g {
		f(p)
	}
}

// Dial connects to where a connector finds an address: the proxy in front of it, or, where there is none, the address itself. It fits
// clients that learn addresses from their system.
func (g Group) Dial(ctx context.Context, addr string) (net.Conn, error) {
	for _, p := range g {
		if p.proxy.Upstream == addr {
			addr = p.Addr()
			break
		}
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}
