package flow

import "fmt"

// CoPartitioned makes a KeyBy keep its records in the task of their source partition, with no exchange: all records of a key must
// come from one partition, as they do where the writer chose the partition by that key, or by one that it implies (the site of a
// device).
//
// Every partition is then a unit of its own, with its own epochs, watermarks and state: a slow or silent partition holds up no other,
// and nothing crosses between cores. Epochs of many units share their sinks; blocks that wait are delivered together. State is stored
// by partition and follows it.
//
// It is legal in topologies with one source, and only for all KeyBys at once; Parallelism has no meaning there. That keys have not
// moved between partitions (a changed number of queues) is for the source to check, as the RocketMQ and Kafka sources do by what
// this project's sinks write with each message; messages of other writers say nothing about it.
//
// Windows over a whole stream (flow.Whole) are per partition here. Taking the option in or out changes where state is stored, which
// the next start refuses with the cure. The bound of WithMaxPending holds per unit. Kafka Streams calls it co-partitioning.
func CoPartitioned() KeyOption {
	return KeyOption(SetOption(func(c *keyConfig) { c.co = true }))
}

// coPartitioned tells whether the topology's partitions are units of their own.
func (t *Topology) coPartitioned() bool {
	for _, k := range t.keyings {
		if k.partition().co {
			return true
		}
	}
	return false
}

// mixed finds what CoPartitioned cannot stand beside.
func (t *Topology) mixed() (ps []Problem) {
	if !t.coPartitioned() {
		return nil
	}
	if n := len(t.sources); n != 1 {
		ps = append(ps, Problem{"", fmt.Sprintf("flow.CoPartitioned with %d sources: partitions of two systems do not hold the same keys", n), "read one source, or take the option out"})
	}
	for _, k := range t.keyings {
		from, _, kept := k.used()
		where := fmt.Sprintf("the KeyBy behind %s", nameOf(from))
		switch p := k.partition(); {
		case kept:
		case !p.co:
			ps = append(ps, Problem{"", where + " is exchanged while another one is co-partitioned", "give flow.CoPartitioned() to all of them or to none"})
		case p.parallelism > 0:
			ps = append(ps, Problem{"", fmt.Sprintf("%s is co-partitioned and has Parallelism(%d)", where, p.parallelism), "take Parallelism out: there is one task per partition"})
		}
	}
	return ps
}
