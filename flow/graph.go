package flow

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Graph describes a topology: nodes in the order in which they were added, and edges.
type Graph struct {
	Topology string      `json:"topology"`
	Nodes    []GraphNode `json:"nodes"`
	Edges    []GraphEdge `json:"edges"`
}

// GraphNode is a node of a Graph.
type GraphNode struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Description string `json:"description,omitempty"`
	Stateful    bool   `json:"stateful,omitempty"`
	Parallelism int    `json:"parallelism,omitempty"`
}

// GraphEdge is an edge of a Graph. Output names a side output; Keyed says that a KeyBy lies on it.
type GraphEdge struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Output string `json:"output,omitempty"`
	Keyed  bool   `json:"keyed,omitempty"`
}

// Graph returns the topology's description.
func (t *Topology) Graph() Graph {
	g := Graph{Topology: t.name, Nodes: []GraphNode{}, Edges: []GraphEdge{}}
	for _, n := range t.nodes {
		g.Nodes = append(g.Nodes, GraphNode{n.name, n.kind, n.cfg.Description, n.cfg.Traits.Stateful, n.cfg.Parallelism})
	}
	for _, e := range t.edges {
		from := "dead letters"
		if e.from != nil {
			from = e.from.name
		}
		g.Edges = append(g.Edges, GraphEdge{from, e.to.name, e.label, e.keyed})
	}
	return g
}

// MarshalJSON encodes the topology's Graph.
func (t *Topology) MarshalJSON() ([]byte, error) { return json.Marshal(t.Graph()) }

// Mermaid draws the topology as a Mermaid flowchart. Keyed edges are thick, side outputs dotted with their name.
func (t *Topology) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	ids := map[*node]string{}
	for i, n := range t.nodes {
		id := fmt.Sprintf("n%d", i)
		ids[n] = id
		label := n.name
		if n.kind != "" {
			label += "<br/><i>" + n.kind + "</i>"
		}
		open, end := "[", "]"
		switch {
		case n.kind == "source":
			open, end = "([", "])"
		case n.kind == "sink":
			open, end = "[(", ")]"
		case n.cfg.Traits.Stateful:
			open, end = "[[", "]]"
		}
		fmt.Fprintf(&b, "    %s%s\"%s\"%s\n", id, open, label, end)
	}
	letters := false
	for _, e := range t.edges {
		from := ids[e.from]
		if e.from == nil {
			if !letters {
				letters = true
				b.WriteString("    dead{{\"dead letters\"}}\n")
			}
			from = "dead"
		}
		switch {
		case e.from == nil:
			fmt.Fprintf(&b, "    %s --> %s\n", from, ids[e.to])
		case e.keyed && e.label != "":
			fmt.Fprintf(&b, "    %s == %s ==> %s\n", from, e.label, ids[e.to])
		case e.label != "":
			fmt.Fprintf(&b, "    %s -. %s .-> %s\n", from, e.label, ids[e.to])
		case e.keyed:
			fmt.Fprintf(&b, "    %s ==> %s\n", from, ids[e.to])
		default:
			fmt.Fprintf(&b, "    %s --> %s\n", from, ids[e.to])
		}
	}
	return b.String()
}
