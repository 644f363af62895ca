// Package sparkplug reads and writes Sparkplug B: MQTT topics and payloads of edge nodes, metric aliases resolved by birth certificates,
// and gaps in sequence numbers found.
//
// A topology for it:
//
//	payloads := flow.From(t, "mqtt", mqtt.Source(cfg, sparkplug.Codec())) // with Topics "spBv1.0/+/+/+/#" and Meta
//	messages := sparkplug.Messages(payloads, "sparkplug")
//	timed := flow.AssignTime(messages, "event-time", sparkplug.Message.At, watermark.BoundedOutOfOrderness(10*time.Second))
//	readings := sparkplug.Metrics(timed, "metrics")
//	readings.Issues() // gaps, unknown aliases: ask for a rebirth
package sparkplug

import (
	"fmt"
	"strings"
)

// Namespace is the first level of every topic.
const Namespace = "spBv1.0"

// Type is the type of a message.
type Type string

// The types of messages.
const (
	NBirth Type = "NBIRTH"
	NDeath Type = "NDEATH"
	NData  Type = "NDATA"
	NCmd   Type = "NCMD"
	DBirth Type = "DBIRTH"
	DDeath Type = "DDEATH"
	DData  Type = "DDATA"
	DCmd   Type = "DCMD"
)

// ofDevice tells whether messages of this type are about a device.
func (t Type) ofDevice() bool { return strings.HasPrefix(string(t), "D") }

// Topic is spBv1.0/Group/Type/Node, and /Device for messages about a device.
type Topic struct {
	Group  string
	Type   Type
	Node   string
	Device string `cbor:",omitempty"`
}

// ParseTopic takes a topic apart. The topic of a host's STATE, whose payload is JSON, is an error: the filter spBv1.0/+/+/+/# leaves it
// out.
func ParseTopic(s string) (Topic, error) {
	p := strings.Split(s, "/")
	if p[0] != Namespace {
		return Topic{}, fmt.Errorf("topic %q is not of Sparkplug B: it must begin with %s/", s, Namespace)
	}
	if len(p) > 1 && p[1] == "STATE" {
		return Topic{}, fmt.Errorf("topic %q tells a host's state, as JSON: subscribe to %s/+/+/+/#, which leaves it out", s, Namespace)
	}
	if len(p) != 4 && len(p) != 5 {
		return Topic{}, fmt.Errorf("topic %q has %d levels: %s/group/type/node, and /device for devices, are expected", s, len(p), Namespace)
	}
	t := Topic{Group: p[1], Type: Type(p[2]), Node: p[3]}
	if len(p) == 5 {
		t.Device = p[4]
	}
	switch t.Type {
	case NBirth, NDeath, NData, NCmd, DBirth, DDeath, DData, DCmd:
	default:
		return Topic{}, fmt.Errorf("topic %q: the type %q is not known", s, t.Type)
	}
	if t.Group == "" || t.Node == "" || t.Type.ofDevice() != (t.Device != "") {
		return Topic{}, fmt.Errorf("topic %q: group and node must not be empty, and a device is named by types that begin with D, and only by them", s)
	}
	return t, nil
}

// String is the topic as MQTT has it.
func (t Topic) String() string {
	s := Namespace + "/" + t.Group + "/" + string(t.Type) + "/" + t.Node
	if t.Device != "" {
		s += "/" + t.Device
	}
	return s
}

// EdgeNode names the edge node: group/node. Sequence numbers and aliases are its own.
func (t Topic) EdgeNode() string { return t.Group + "/" + t.Node }
