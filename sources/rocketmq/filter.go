package rocketmq

import (
	"errors"
	"slices"
	"strings"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// filter is the subscription: which messages of the topic are wanted. Zero wants all.
type filter struct {
	rocketmq.Filter
	tags []string
}

func (c Config) filter() (filter, error) {
	switch tags := strings.TrimSpace(c.Tags); {
	case c.SQL != "" && c.Tags != "":
		return filter{}, errors.New("rocketmq source: tags and sql: set one; TAGS is a property that an sql condition can name")
	case c.SQL != "":
		return filter{Filter: rocketmq.Filter{Expression: c.SQL, SQL: true}}, nil
	case tags == "" || tags == "*":
		return filter{}, nil
	}
	f := filter{Filter: rocketmq.Filter{Expression: c.Tags}}
	for tag := range strings.SplitSeq(c.Tags, "||") {
		if tag = strings.TrimSpace(tag); tag == "" || tag == "*" {
			return filter{}, errors.New(`rocketmq source: tags is "` + c.Tags + `": want tags with || between them, or * alone`)
		}
		f.tags = append(f.tags, tag)
	}
	return f, nil
}

// wants looks once more at what the broker let through: it compares hashes of tags, which several tags can share.
func (f *filter) wants(m *rocketmq.Message) bool {
	if len(f.tags) == 0 {
		return true
	}
	tag := m.Properties.Get(rocketmq.Tags)
	return slices.ContainsFunc(f.tags, func(t string) bool { return t == string(tag) })
}
