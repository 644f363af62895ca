package rule

import (
	"fmt"
	"strings"
)

// updateOf is the result of the rule's update expression, as text.
func (t *Tracker[K, T]) updateOf(m *member) string {
	if m.update == nil {
		return ""
	}
	v, err := t.vm.Run(m.update.program, t.rec.env)
	if err != nil {
		t.fail(m.ID, err)
		return ""
	}
	return fmt.Sprint(v)
}

// describe sets an entry's labels and message from the record at hand.
func (t *Tracker[K, T]) describe(e *entry) {
	m := e.m
	data := Message[T]{Rule: e.id, Severity: e.severity, Key: t.key, Device: e.device, Record: *t.value, Since: e.since.Time(), At: t.now.Time()}
	e.labels = nil
	if len(m.labels) > 0 {
		e.labels = make(map[string]string, len(m.labels))
		for i := range m.labels {
			s, err := m.labels[i].value.render(data)
			if err != nil {
				t.fail(e.id, err)
			}
			e.labels[m.labels[i].name] = strings.Clone(s)
		}
	}
	data.Labels = e.labels
	s, err := m.message.render(data)
	if err != nil {
		t.fail(e.id, err)
	}
	e.message = s
}

func (t *Tracker[K, T]) emit(e *entry, s State, reason string) {
	t.Alarms = append(t.Alarms, Alarm[K, T]{
		ID: alarmID(e.id, t.key, e.device, e.since), State: s, Rule: e.id, Version: e.version, Key: t.key, Device: e.device,
		Severity: e.severity, Labels: e.labels, Message: e.message, Reason: reason, Flapping: e.flaps, Value: *t.value,
		Since: e.since, At: t.now,
	})
}
