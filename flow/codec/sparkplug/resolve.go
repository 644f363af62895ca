package sparkplug

import (
	"fmt"
	"time"
)

// Message is a payload with the topic that it came on.
type Message struct {
	Topic   Topic
	Payload Payload
}

// At is when the message was sent, for flow.AssignTime; the zero time where the payload does not say.
func (m Message) At() time.Time {
	if m.Payload.Timestamp == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.Payload.Timestamp).UTC()
}

// EdgeNode names the edge node: group/node.
func (m Message) EdgeNode() string { return m.Topic.EdgeNode() }

// Reading is a metric with everything resolved.
type Reading struct {
	Topic Topic
	Name  string
	// Time is the metric's own, else the message's.
	Time  time.Time
	Value Value
	// Historical says that the value was kept back, for instance while the edge node was offline; Transient that it need not be stored.
	Historical bool `cbor:",omitempty"`
	Transient  bool `cbor:",omitempty"`
	// Seq is the message's sequence number.
	Seq uint8
}

// EdgeNode names the edge node: group/node.
func (r Reading) EdgeNode() string { return r.Topic.EdgeNode() }

// Kind is the kind of an Issue.
type Kind string

// The kinds of issues.
const (
	// Gap says that messages are missing: the sequence number is not the one expected.
	Gap Kind = "gap"
	// Repeat says that a message has the sequence number of the one before it: the broker delivered it again.
	Repeat Kind = "repeat"
	// NotBorn says that data came of an edge node or device whose birth was not seen; Metrics are those that could not be resolved.
	NotBorn Kind = "not-born"
	// UnknownAlias says that the birth does not have the aliases, or the names without type, of Metrics.
	UnknownAlias Kind = "unknown-alias"
	// Misfit says that the values of Metrics do not fit their types; Detail tells the first.
	Misfit Kind = "misfit"
	// Full says that a birth has more metrics than are remembered per edge node; Metrics are those beyond.
	Full Kind = "full"
)

// Issue is something wrong with an edge node's messages. What cures all but Repeat and Misfit is a new birth: publish Rebirth.
type Issue struct {
	Topic Topic
	Kind  Kind
	Time  time.Time
	// Expected and Got are sequence numbers.
	Expected uint8
	Got      uint8
	// Metrics are what did not become readings, as sent.
	Metrics []Metric `cbor:",omitempty"`
	Detail  string   `cbor:",omitempty"`
}

// Rebirth returns topic and payload of the command that asks an edge node for new births.
func Rebirth(node Topic, at time.Time) (Topic, Payload) {
	m := Metric{Name: "Node Control/Rebirth", Type: Boolean, Wire: WireBool, Bits: 1}
	return Topic{Group: node.Group, Type: NCmd, Node: node.Node}, Payload{Timestamp: at.UnixMilli(), Metrics: []Metric{m}}
}

// sequence is what is known of an edge node's numbering.
type sequence struct {
	Known bool
	Last  uint8
	Sent  int64 // the last message's timestamp
	BdSeq uint64
}

// known is a metric that a birth has told.
type known struct {
	Name   string
	Device string `cbor:",omitempty"`
	Type   DataType
}

// births are the metrics of an edge node and its devices.
type births struct {
	Aliases map[uint64]known
	// Names without alias, by device and name.
	Names map[string]DataType
	// Devices that are born; "" is the edge node itself.
	Devices map[string]bool
}

func nameKey(device, name string) string { return device + "\x00" + name }

// tracker resolves messages, one edge node's at a time.
type tracker struct {
	limit int
	state state
}

// state is what a tracker knows of the edge node at hand, and where its results go. peek returns nil where nothing is known; change marks
// it as changed, and makes it where there is none.
type state interface {
	peekSequence() *sequence
	changeSequence() *sequence
	peekBirths() *births
	changeBirths() *births
	forget()
	reading(Reading)
	issue(Issue)
}

// take resolves one message.
func (t *tracker) take(m *Message) {
	switch m.Topic.Type {
	case NCmd, DCmd:
		return // for the edge node
	case NDeath:
		t.death(m)
		return
	case NBirth:
		s := t.state.changeSequence()
		*s = sequence{Known: m.Payload.HasSeq, Last: uint8(m.Payload.Seq), Sent: m.Payload.Timestamp, BdSeq: bdSeq(&m.Payload)}
		*t.state.changeBirths() = births{Aliases: map[uint64]known{}, Names: map[string]DataType{}, Devices: map[string]bool{}}
		t.birth(m)
	default:
		t.number(m)
		switch m.Topic.Type {
		case DBirth:
			t.birth(m)
		case DDeath:
			if b := t.state.peekBirths(); b != nil && b.Devices[m.Topic.Device] {
				t.state.changeBirths().drop(m.Topic.Device)
			}
		}
	}
	t.metrics(m)
}

// number checks the sequence number.
func (t *tracker) number(m *Message) {
	if !m.Payload.HasSeq {
		return
	}
	got := uint8(m.Payload.Seq)
	s := t.state.changeSequence()
	expected := s.Last + 1
	switch {
	case !s.Known || got == expected:
	case got == s.Last && m.Payload.Timestamp == s.Sent:
		t.state.issue(Issue{Topic: m.Topic, Kind: Repeat, Time: m.At(), Expected: expected, Got: got})
	default:
		t.state.issue(Issue{Topic: m.Topic, Kind: Gap, Time: m.At(), Expected: expected, Got: got})
	}
	s.Known, s.Last, s.Sent = true, got, m.Payload.Timestamp
}

// death forgets the edge node, unless the death is of an earlier connection than the last birth.
func (t *tracker) death(m *Message) {
	s := t.state.peekSequence()
	if s == nil || t.state.peekBirths() != nil && s.BdSeq != bdSeq(&m.Payload) {
		return
	}
	t.state.forget()
}

func bdSeq(p *Payload) uint64 {
	for i := range p.Metrics {
		if p.Metrics[i].Name == "bdSeq" {
			return p.Metrics[i].Bits
		}
	}
	return 0
}

// birth remembers a device's metrics, or the edge node's own, in place of those of an earlier birth.
func (t *tracker) birth(m *Message) {
	b := t.state.changeBirths()
	if b.Devices == nil {
		*b = births{Aliases: map[uint64]known{}, Names: map[string]DataType{}, Devices: map[string]bool{}}
	}
	device := m.Topic.Device
	b.drop(device)
	b.Devices[device] = true
	var over []Metric
	for i := range m.Payload.Metrics {
		x := &m.Payload.Metrics[i]
		switch {
		case x.Name == "" || x.Type == Unknown:
			continue // metrics reports it
		case len(b.Aliases)+len(b.Names) >= t.limit:
			over = append(over, *x)
		case x.HasAlias:
			b.Aliases[x.Alias] = known{x.Name, device, x.Type}
		default:
			b.Names[nameKey(device, x.Name)] = x.Type
		}
	}
	if over != nil {
		t.state.issue(Issue{Topic: m.Topic, Kind: Full, Time: m.At(), Metrics: over, Detail: fmt.Sprintf("more than %d metrics: raise MaxMetricsPerNode", t.limit)})
	}
}

// drop forgets a device.
func (b *births) drop(device string) {
	delete(b.Devices, device)
	for a, k := range b.Aliases {
		if k.Device == device {
			delete(b.Aliases, a)
		}
	}
	prefix := nameKey(device, "")
	for n := range b.Names {
		if len(n) >= len(prefix) && n[:len(prefix)] == prefix {
			delete(b.Names, n)
		}
	}
}

// metrics emits a message's metrics, and one issue per kind for those that cannot be resolved.
func (t *tracker) metrics(m *Message) {
	b := t.state.peekBirths()
	var unknown, misfits []Metric
	detail := ""
	for i := range m.Payload.Metrics {
		x := &m.Payload.Metrics[i]
		name, typ := x.Name, x.Type
		if b != nil && (name == "" || typ == Unknown) {
			if x.HasAlias {
				if k, ok := b.Aliases[x.Alias]; ok && k.Device == m.Topic.Device {
					name, typ = k.Name, k.Type
				}
			} else if name != "" {
				typ = b.Names[nameKey(m.Topic.Device, name)]
			}
		}
		if name == "" || typ == Unknown {
			unknown = append(unknown, *x)
			continue
		}
		v, err := x.Value(typ)
		if err != nil {
			misfits = append(misfits, *x)
			if detail == "" {
				detail = err.Error()
			}
			continue
		}
		at := m.At()
		if x.Timestamp != 0 {
			at = time.UnixMilli(x.Timestamp).UTC()
		}
		t.state.reading(Reading{Topic: m.Topic, Name: name, Time: at, Value: v, Historical: x.Historical, Transient: x.Transient, Seq: uint8(m.Payload.Seq)})
	}
	if unknown != nil {
		kind := UnknownAlias
		if b == nil || !b.Devices[m.Topic.Device] {
			kind = NotBorn
		}
		t.state.issue(Issue{Topic: m.Topic, Kind: kind, Time: m.At(), Metrics: unknown})
	}
	if misfits != nil {
		t.state.issue(Issue{Topic: m.Topic, Kind: Misfit, Time: m.At(), Metrics: misfits, Detail: detail})
	}
}
