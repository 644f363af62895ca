package kafka

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// token is what a position remembers beside its offset: the topic's id, since a topic that was created again has other records
// at the same offsets, and for how many shards its records were written. It is the metadata of offsets committed to brokers too.
type token struct {
	id     string // "-": unknown
	shards string // "": unknown
}

const tokenMark = "mr:"

func (t token) String() string {
	s := tokenMark + t.id
	if t.shards != "" {
		s += "/" + t.shards
	}
	return s
}

// parseToken reads a token; what others wrote says nothing.
func parseToken(s string) token {
	rest, ours := strings.CutPrefix(s, tokenMark)
	if !ours {
		return token{id: "-"}
	}
	var t token
	t.id, t.shards, _ = strings.Cut(rest, "/")
	return t
}

// committed is the position that a group remembers. It is never zero: offset 0 is known too.
func committed(o kafka.Offset) flow.Position {
	return flow.Position{Offset: o.At, Token: parseToken(o.Metadata).String()}
}

// partitionID is "topic/number": no topic has a slash in its name.
func partitionID(k kafka.Key) string { return k.Topic + "/" + strconv.Itoa(int(k.Partition)) }

func parsePartition(id string) (kafka.Key, error) {
	topic, number, _ := strings.Cut(id, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	if topic == "" || err != nil || n < 0 {
		return kafka.Key{}, fmt.Errorf("kafka source: partition %q is not of the form topic/number", id)
	}
	return kafka.Key{Topic: topic, Partition: int32(n)}, nil
}
