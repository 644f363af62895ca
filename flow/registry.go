package flow

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// registry is the store's list of nodes with state: their ids, and what their state looks like.
type registry struct {
	mu    sync.Mutex
	Nodes map[string]*registered `cbor:"nodes"`
	Next  uint16                 `cbor:"next"`
	// Scopes number the partitions of a co-partitioned topology: their state is stored under it.
	Scopes  map[string]uint16 `cbor:"scopes,omitempty"`
	changed bool
	dropped []uint16
	seen    map[string]bool
}

type registered struct {
	ID          uint16 `cbor:"id"`
	Fingerprint string `cbor:"fingerprint"`
	State       bool   `cbor:"state"`
}

func newRegistry() *registry {
	return &registry{Nodes: map[string]*registered{}, seen: map[string]bool{}}
}

// load reads the stored registry and applies Renamed and DropState.
func (r *registry) load(b []byte, t *Topology) error {
	if len(b) > 0 {
		if err := cbor.Unmarshal(b, r); err != nil {
			return fmt.Errorf("the store's list of nodes: %w", err)
		}
	}
	for now, old := range t.cfg.renamed {
		if n := r.Nodes[old]; n != nil && r.Nodes[now] == nil {
			delete(r.Nodes, old)
			r.Nodes[now] = n
		}
	}
	for name := range t.cfg.drop {
		if n := r.Nodes[name]; n != nil {
			r.dropped = append(r.dropped, n.ID)
			delete(r.Nodes, name)
		}
	}
	for name, n := range r.Nodes {
		if n.State && t.byName[name] == nil {
			return &NodeError{t.name, name, fmt.Errorf("%w: the store has state of this node, but the topology has no such node; give the new name by flow.Renamed(%q, …), or forget it by flow.DropState(%q)", ErrStateMismatch, name, name)}
		}
	}
	return nil
}

func (r *registry) id(name string) uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.Nodes[name]
	if n == nil {
		r.Next++
		n = &registered{ID: r.Next}
		r.Nodes[name] = n
		r.changed = true
	}
	return n.ID
}

// keep notes that something is stored under a node's name that a restart must find again.
func (r *registry) keep(name string) {
	r.id(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.Nodes[name]; !n.State {
		n.State, r.changed = true, true
	}
}

// scope returns the number of a partition.
func (r *registry) scope(partition string) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.Scopes[partition]; ok {
		return int(n), nil
	}
	n := len(r.Scopes)
	if n >= KeyGroups {
		return 0, fmt.Errorf("partition %q is the one behind %d others that this store has seen, the most that flow.CoPartitioned can keep state for; use an exchanged KeyBy, or start with a new store", partition, n)
	}
	if r.Scopes == nil {
		r.Scopes = map[string]uint16{}
	}
	r.Scopes[partition] = uint16(n)
	r.changed = true
	return n, nil
}

// check compares a node's state layout with the stored one.
func (r *registry) check(topology string, s *nodeState) error {
	print := s.n.kind + "|" + strings.Join(s.prints, "|")
	if s.u.scope >= 0 {
		print += "|co-partitioned"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.Nodes[s.n.name]
	if n.Fingerprint == "" {
		n.Fingerprint, n.State, r.changed = print, true, true
		return nil
	}
	if n.Fingerprint != print {
		return &NodeError{topology, s.n.name, fmt.Errorf("%w: it was written as %q and is now %q; give the node a new name, or forget its state by flow.DropState(%q)", ErrStateMismatch, n.Fingerprint, print, s.n.name)}
	}
	return nil
}

func (r *registry) takeChanged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.changed
	r.changed = false
	return c
}

func (r *registry) encode() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := cbor.Marshal(struct {
		Nodes  map[string]*registered `cbor:"nodes"`
		Next   uint16                 `cbor:"next"`
		Scopes map[string]uint16      `cbor:"scopes,omitempty"`
	}{r.Nodes, r.Next, r.Scopes})
	if err != nil {
		panic(err) // a map of plain structs
	}
	return b
}
