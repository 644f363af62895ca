package rule

import (
	"github.com/millrace-stream/millrace/flow"
)

// Source is where rules come from: File, Text, Fixed, Broadcast, an API, or one of your own.
type Source interface {
	// Initial gives the rules for a topology that has none stored. check says what is wrong with a change for the stream's record type; it
	// gives Problems, in which a source that knows lines and columns can put them.
	Initial(check func(Change) error) ([]Rule, error)
	// Control adds to the topology what brings changes, under names that begin with name and a slash. It returns nil where the rules
	// stay what Initial says as long as the topology runs.
	Control(t *flow.Topology, name string, check func(Change) error) flow.Stream[Change]
}

// Observer is a Source that wants to know which rules are in force. It is told by one task of the operator, at the start and at each change.
type Observer interface{ InForce(rules []Rule) }

// Fixed are rules made by the program. They change with the program only; the state follows at the start.
func Fixed(rules ...Rule) Source { return fixed(rules) }

type fixed []Rule

func (f fixed) Initial(check func(Change) error) ([]Rule, error) {
	return f, check(Change{Whole: true, Put: f})
}

func (fixed) Control(*flow.Topology, string, func(Change) error) flow.Stream[Change] { return nil }

// Text are rules in YAML within the program. They change with the program only; the state follows at the start.
func Text(yaml string) Source { return inline(yaml) }

type inline string

func (s inline) Initial(check func(Change) error) ([]Rule, error) {
	return readRules("rules", []byte(s), check)
}

func (inline) Control(*flow.Topology, string, func(Change) error) flow.Stream[Change] { return nil }

// readRules parses and checks rules, with places in what is wrong.
func readRules(name string, data []byte, check func(Change) error) ([]Rule, error) {
	d, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	if err := check(Change{Whole: true, Put: d.rules}); err != nil {
		return nil, d.locate(err)
	}
	return d.rules, nil
}

// Broadcast takes changes from a stream of the topology: rows of a table, messages of a topic, mapped to Changes. There are no rules until
// the first one. A change that does not fit goes to the dead letters, and changes nothing; the others are checkpointed with the operator, and
// those of one epoch come in force together. Changes of a rule must come through one partition. A rule may come before its parent, and has
// none until then.
func Broadcast(changes flow.Stream[Change]) Source { return broadcast{changes} }

type broadcast struct{ changes flow.Stream[Change] }

func (broadcast) Initial(func(Change) error) ([]Rule, error) { return nil, nil }

func (b broadcast) Control(*flow.Topology, string, func(Change) error) flow.Stream[Change] {
	return b.changes
}
