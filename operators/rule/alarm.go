package rule

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// State is what has happened to an alarm.
type State uint8

// States of alarms.
const (
	// Raised: the alarm is new.
	Raised State = iota + 1
	// Updated: the alarm goes on, and its severity, message, version or flapping is another.
	Updated
	// Cleared: the alarm is over.
	Cleared
)

// String is "raised", "updated" or "cleared".
func (s State) String() string {
	switch s {
	case Raised:
		return "raised"
	case Updated:
		return "updated"
	case Cleared:
		return "cleared"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText writes the state as its String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	for _, v := range []State{Raised, Updated, Cleared} {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is no state of an alarm: it is raised, updated or cleared", b)
}

// Reasons of updates and clearings that the records themselves did not bring about.
const (
	// ReasonRemoved: the rule is no more, or is off.
	ReasonRemoved = "rule removed"
	// ReasonChanged: the rule has changed; an alarm that its new selection does not cover is cleared.
	ReasonChanged = "rule changed"
	// ReasonSeverity: another level.
	ReasonSeverity = "severity"
	// ReasonUpdate: the rule's update expression has another result.
	ReasonUpdate = "update"
	// ReasonFlapping: the alarm comes and goes too often, and is silent from now on.
	ReasonFlapping = "flapping"
	// ReasonStable: it has stopped to.
	ReasonStable = "stable"
)

// Alarm is what a rule says of a key. Its raising, its updates and its clearing are records of their own with one ID.
type Alarm[K comparable, T any] struct {
	// ID is made of the rule's id, the key, the device and Since: the same again when a crash makes a part of the stream run again.
	ID string `json:"id"`
	// State says what has happened.
	State State `json:"state"`
	// Rule is the rule's id, and Version its version.
	Rule    string `json:"rule"`
	Version string `json:"version"`
	// Key is the stream's key, and Device what the option Device says, "" without it.
	Key    K      `json:"key"`
	Device string `json:"device,omitempty"`
	// Severity is what the rule or its levels say.
	Severity string `json:"severity"`
	// Labels are the rule's. They are shared: do not change them.
	Labels map[string]string `json:"labels,omitempty"`
	// Message is the rule's message as of the raising or the last update.
	Message string `json:"message"`
	// Reason says in a word why it was updated, or cleared other than by a record.
	Reason string `json:"reason,omitempty"`
	// Flapping: the alarm comes and goes, which is not told until that ends.
	Flapping bool `json:"flapping,omitempty"`
	// Value is the record that brought this about. Where time did, it is the last one for which the condition was true.
	Value T `json:"value"`
	// Since is the time of the record from which on the condition was true.
	Since flow.Timestamp `json:"since"`
	// At is when this happened: a record's time, or when the time was over.
	At flow.Timestamp `json:"at"`
}

// Message is what templates of messages and labels are given.
type Message[T any] struct {
	// Rule is the rule's id.
	Rule string
	// Severity is the alarm's.
	Severity string
	// Key and Device are the alarm's.
	Key    any
	Device string
	// Labels are the alarm's; empty in templates of labels.
	Labels map[string]string
	// Record is the alarm's Value.
	Record T
	// Since and At are the alarm's.
	Since, At time.Time
}

func alarmID(rule string, key any, device string, since flow.Timestamp) string {
	if device != "" {
		return fmt.Sprintf("%s/%v/%s/%s", rule, key, device, since)
	}
	return fmt.Sprintf("%s/%v/%s", rule, key, since)
}
