package iot

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/rule"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

// Alarm is what a rule or a pattern says of a device. Its raising, its updates and its clearing are records of their own with one ID.
type Alarm struct {
	// ID is the same again when a crash makes a part of the stream run again.
	ID    string
	State rule.State
	// Rule is the rule's id, or PatternOverheating or PatternSilent.
	Rule     string
	Severity string
	Message  string
	// Reason says why it was updated or cleared, where no reading did.
	Reason string
	Device string
	// Site, Region, Temperature and Humidity are those of the reading that brought it about. Of a silent device there is none.
	Site, Region          string
	Temperature, Humidity float64
	// Since is when it began, At when this happened.
	Since, At time.Time
	// Command is what the device is to do now, "" for nothing.
	Command string
}

// Names of the alarms that come of patterns, as they stand in Alarm.Rule.
const (
	PatternOverheating = "overheating"
	PatternSilent      = "silent"
)

// Labels of rules that make commands: what the device is to do when the alarm is raised, and when it is cleared.
const (
	LabelCommand      = "command"
	LabelClearCommand = "clear_command"
)

// Alarms is all alarms that the configuration asks for, which must be one at least: by rules (see operators.Rules for what may be said, and
// Placed for the fields), of devices that overheat, and of devices that are silent. Those of one rule or pattern and device come in order.
func Alarms(fresh flow.KeyedStream[string, Placed], name string, cfg AlarmsConfig) flow.Stream[Alarm] {
	var all []flow.Stream[Alarm]
	if cfg.Rules != "" {
		found := operators.Rules(fresh, name+"/rules", rule.File(cfg.Rules, rule.Every(cfg.RulesEvery)))
		all = append(all, operators.Map(found, name+"/by-rules", ruleAlarm))
	}
	if cfg.Patterns {
		all = append(all, overheating(fresh, name+"/"+PatternOverheating, cfg), silent(fresh, name+"/"+PatternSilent, cfg))
	}
	if len(all) == 1 {
		return all[0]
	}
	return flow.Union(name+"/all", all[0], all[1:]...)
}

func ruleAlarm(_ context.Context, a rule.Alarm[string, Placed]) (Alarm, error) {
	v := a.Value
	out := Alarm{
		ID: a.ID, State: a.State, Rule: a.Rule, Severity: a.Severity, Message: a.Message, Reason: a.Reason, Device: a.Key, Site: v.Site, Region: v.Region,
		Temperature: v.Temperature, Humidity: v.Humidity, Since: a.Since.Time().UTC(), At: a.At.Time().UTC(),
	}
	switch a.State {
	case rule.Raised:
		out.Command = a.Labels[LabelCommand]
	case rule.Cleared:
		out.Command = a.Labels[LabelClearCommand]
	case rule.Updated:
	}
	return out, nil
}

// overheating is chains.Overheat with alarms that say where the device stands.
func overheating(fresh flow.KeyedStream[string, Placed], name string, cfg AlarmsConfig) flow.Stream[Alarm] {
	pattern := chains.OverheatPattern(func(p Placed) float64 { return p.Temperature },
		chains.OverheatConfig{Warm: cfg.Warm, Hot: cfg.Hot, Times: cfg.HotReadings, Cooled: cfg.Cooled, Within: cfg.Confirm})
	found := operators.CEP(fresh, name, pattern, func(_ context.Context, m cep.Match[string, Placed]) (Alarm, error) {
		hot := m.Of("hot")
		v := hot[0]
		for _, h := range hot[1:] {
			if h.Temperature > v.Temperature {
				v = h
			}
		}
		a := Alarm{
			State: rule.Raised, Rule: PatternOverheating, Severity: "critical", Device: m.Key, Site: v.Site, Region: v.Region,
			Temperature: v.Temperature, Humidity: v.Humidity, Since: m.Start.Time().UTC(), At: m.Start.Add(cfg.Confirm).Time().UTC(), Command: cfg.OverheatCommand,
			Message: fmt.Sprintf("up to %v °C, and not cooled down within %v", v.Temperature, cfg.Confirm),
		}
		a.ID = patternID(a)
		return a, nil
	})
	byDevice := flow.KeyBy(found, func(a Alarm) string { return a.Device })
	return operators.Dedup(byDevice, name+"/quiet", func(Alarm) struct{} { return struct{}{} }, cfg.Quiet).Unkeyed()
}

// silent is chains.Offline as alarms.
func silent(fresh flow.KeyedStream[string, Placed], name string, cfg AlarmsConfig) flow.Stream[Alarm] {
	outages := chains.Offline(fresh, name, chains.OfflineConfig{Silent: cfg.SilentAfter})
	return operators.Map(outages, name+"/alarm", func(_ context.Context, o chains.Outage) (Alarm, error) {
		a := Alarm{State: rule.Raised, Rule: PatternSilent, Severity: "warning", Device: o.Device, Since: o.LastSeen, At: o.At}
		if a.Message = fmt.Sprintf("nothing for %v", cfg.SilentAfter); o.Over {
			a.State, a.Message = rule.Cleared, fmt.Sprintf("back after %v", o.At.Sub(o.LastSeen))
		}
		a.ID = patternID(a)
		return a, nil
	})
}

func patternID(a Alarm) string {
	return fmt.Sprintf("%s/%s/%s", a.Rule, a.Device, a.Since.Format(time.RFC3339Nano))
}

// Command tells a device what to do.
type Command struct {
	// ID is made of the alarm's id and state. It is the same where a command comes a second time, which MQTT does not exclude: a device that
	// must not do twice what it is told compares it with that of its last command.
	ID     string `json:"id"`
	Device string `json:"deviceId"`
	Site   string `json:"site"`
	// Command is what to do, Alarm the rule or pattern because of which, and Message what that says.
	Command  string `json:"command"`
	Alarm    string `json:"alarm"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	// TS is when the alarm was raised or cleared, in ms since the Unix epoch.
	TS int64 `json:"ts"`
}

// Commands is the commands of those alarms that have one, each once: its id is remembered for some time, so that an alarm that comes again
// does not command again.
//
// A crash forgets ids together with the sources' positions. So a command is sent twice if a crash lies between its confirmation by the
// broker and the commit of its epoch, and not otherwise.
func Commands(alarms flow.Stream[Alarm], name string, cfg AlarmsConfig) flow.KeyedStream[string, Command] {
	with := operators.Filter(alarms, name+"/commanding", func(a Alarm) bool { return a.Command != "" })
	commands := operators.Map(with, name+"/make", func(_ context.Context, a Alarm) (Command, error) {
		return Command{
			ID: a.ID + "/" + a.State.String(), Device: a.Device, Site: a.Site, Command: a.Command, Alarm: a.Rule, Severity: a.Severity, Message: a.Message,
			TS: a.At.UnixMilli(),
		}, nil
	})
	byDevice := flow.KeyBy(commands, func(c Command) string { return c.Device })
	return operators.Dedup(byDevice, name+"/once", func(c Command) string { return c.ID }, cfg.CommandTTL)
}

// topic is where a command goes to.
func (c AlarmsConfig) topic(to Command) string {
	return strings.NewReplacer("{device}", to.Device, "{site}", to.Site, "{alarm}", to.Alarm).Replace(c.CommandTopic)
}

// validate checks what concerns more than one key.
func (c AlarmsConfig) validate(all Config, bad func(key, format string, args ...any)) {
	topic := strings.NewReplacer("{device}", "d", "{site}", "s", "{alarm}", "a").Replace(c.CommandTopic)
	switch {
	case strings.ContainsAny(topic, "{}"):
		bad("alarms.command_topic", "%q has a name in braces that is none of {device}, {site}, {alarm}", c.CommandTopic)
	case strings.ContainsAny(topic, "+#\x00"), strings.HasPrefix(topic, "$"):
		bad("alarms.command_topic", "%q is not a topic to publish to: no +, # or leading $", c.CommandTopic)
	case topic == all.MQTT.Topic, strings.HasPrefix(topic, all.MQTT.Topic+"/"):
		bad("alarms.command_topic", "%q lies under mqtt.topic, so that commands would be read as readings: choose another", c.CommandTopic)
	}
	if c.CommandExpiry%time.Second != 0 {
		bad("alarms.command_expiry", "%v is no whole number of seconds", c.CommandExpiry)
	}
	if !c.Patterns {
		return
	}
	if c.Warm > c.Hot || c.Cooled > c.Warm {
		bad("alarms.hot", "alarms.cooled, warm and hot are %v, %v and %v: each must be at least the one before", c.Cooled, c.Warm, c.Hot)
	}
	if least := c.Confirm + all.Time.OutOfOrderness; all.Dedup.TTL < least {
		bad("dedup.ttl", "%v is less than alarms.confirm + time.out_of_orderness = %v: a repeat could count twice", all.Dedup.TTL, least)
	}
}
