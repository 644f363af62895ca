package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/flow"
)

// TopicID is what tells a topic from one of the same name that was created after it was deleted; zero on brokers before 2.8.
type TopicID [16]byte

// String is the id as Kafka's tools print it, "-" for none.
func (id TopicID) String() string {
	if id == (TopicID{}) {
		return "-"
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// Topic is what the brokers know of a topic.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions []Partition // by number
	Err        error
}

// Partition says who leads one.
type Partition struct {
	Leader int32 // -1: nobody now
	Epoch  int32
}

// Topics asks for topics, for all but Kafka's own when no names are given. No topic is created by asking.
func Topics(ctx context.Context, c *kgo.Client, limit time.Duration, names ...string) (map[string]Topic, error) {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, n := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(n)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(wait, c)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: ask for topics: %w", Err(wait, err))
	}
	topics := make(map[string]Topic, len(resp.Topics))
	for i := range resp.Topics {
		r := &resp.Topics[i]
		if r.Topic == nil || r.IsInternal && len(names) == 0 {
			continue
		}
		t := Topic{Name: *r.Topic, ID: r.TopicID, Err: kerr.ErrorForCode(r.ErrorCode)}
		t.Partitions = make([]Partition, len(r.Partitions))
		for _, p := range r.Partitions {
			if p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
				return nil, flow.Transient(fmt.Errorf("kafka: topic %q is shown with %d partitions, one of them number %d", t.Name, len(t.Partitions), p.Partition))
			}
			t.Partitions[p.Partition] = Partition{Leader: p.Leader, Epoch: p.LeaderEpoch}
		}
		topics[t.Name] = t
	}
	return topics, nil
}

// IsUnknownTopic tells whether brokers say that they do not know a topic.
func IsUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// CreateTopic creates a topic with that many partitions, and replicas as the brokers have it by default. It waits until all partitions have a leader. A
// topic that exists is left as it is.
func CreateTopic(ctx context.Context, c *kgo.Client, clock flow.Clock, limit time.Duration, name string, partitions int, config map[string]string) error {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	set := map[string]*string{}
	for k, v := range config {
		set[k] = kmsg.StringPtr(v)
	}
	_, err := kadm.NewClient(c).CreateTopic(wait, int32(partitions), -1, set, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("kafka: create topic %q: %w", name, Err(wait, err))
	}
	for {
		topics, err := Topics(ctx, c, limit, name)
		if err != nil && !flow.IsTransient(err) {
			return err
		}
		if err == nil && topics[name].led() {
			return nil
		}
		if err := clock.Sleep(wait, MinBackoff); err != nil {
			return fmt.Errorf("kafka: topic %q has no leaders yet: %w", name, err)
		}
	}
}

// DeleteTopics deletes topics; those that do not exist are no error.
func DeleteTopics(ctx context.Context, c *kgo.Client, limit time.Duration, names ...string) error {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	all, err := kadm.NewClient(c).DeleteTopics(wait, names...)
	if err != nil {
		return fmt.Errorf("kafka: delete topics %q: %w", names, Err(wait, err))
	}
	for _, t := range all {
		if t.Err != nil && !IsUnknownTopic(t.Err) {
			return fmt.Errorf("kafka: delete topic %q: %w", t.Topic, Err(wait, t.Err))
		}
	}
	return nil
}

func (t Topic) led() bool {
	for _, p := range t.Partitions {
		if p.Leader < 0 {
			return false
		}
	}
	return t.Err == nil && len(t.Partitions) > 0
}

// TopicConfig returns what a topic is set to, defaults included.
func TopicConfig(ctx context.Context, c *kgo.Client, limit time.Duration, topic string) (map[string]string, error) {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	all, err := kadm.NewClient(c).DescribeTopicConfigs(wait, topic)
	if err == nil {
		var one kadm.ResourceConfig
		if one, err = all.On(topic, nil); err == nil {
			err = one.Err
		}
		if err == nil {
			set := map[string]string{}
			for _, e := range one.Configs {
				set[e.Key] = e.MaybeValue()
			}
			return set, nil
		}
	}
	return nil, fmt.Errorf("kafka: ask for the settings of topic %q: %w", topic, Err(wait, err))
}
