package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
)

// cluster is one of fake brokers, for what one real broker cannot do.
func cluster(t *testing.T, brokers, partitions int) (*kfake.Cluster, *bench) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.SeedTopics(int32(partitions), "t"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	b := &bench{t: t, topic: "t", addrs: c.ListenAddrs()}
	b.client = b.dial()
	b.admin = kadm.NewClient(b.client)
	return c, b
}

func TestAPartitionThatMovesToAnotherBrokerIsReadOn(t *testing.T) {
	t.Parallel()
	c, b := cluster(t, 3, 6)
	e := launch(t, b.config(), nil)
	for round := range 4 {
		for p := range 6 {
			b.send(p, numbers(round*100, 100)...)
		}
		e.until("read", func(parts map[string]*partLog) bool {
			for p := range 6 {
				if !read(parts, b.id(p), int64(round+1)*100) {
					return false
				}
			}
			return true
		})
		c.ShufflePartitionLeaders()
	}
	e.with(func(parts map[string]*partLog) {
		for p := range 6 {
			for i, v := range parts[b.id(p)].values {
				require.Equal(t, i, v, "once, in order")
			}
		}
	})
}

func TestErrorsThatPassAreWaitedForAndOthersStopWithTheCure(t *testing.T) {
	t.Parallel()
	c, b := cluster(t, 1, 2)
	b.send(0, numbers(0, 10)...)
	b.send(1, numbers(0, 10)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 10) && read(parts, b.id(1), 10) })
	fetch := []kmsg.Key{kmsg.Fetch}
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch, kerr.KafkaStorageError, kerr.UnknownServerError, kerr.UnknownTopicID} {
		c.Fault(kfake.Fault{Keys: fetch, Topic: "t", Partitions: []int32{0}, Err: err, Count: 2})
	}
	b.send(0, numbers(10, 10)...)
	b.send(1, numbers(10, 10)...)
	e.until("read on", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 20) && read(parts, b.id(1), 20) })
	e.with(func(parts map[string]*partLog) { require.Equal(t, 20, len(parts[b.id(0)].values)) })

	c.Fault(kfake.Fault{Keys: fetch, Topic: "t", Partitions: []int32{0}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	e.until("stopped", func(parts map[string]*partLog) bool { return parts[b.id(0)].err != nil })
	require.ErrorContains(t, e.parts[b.id(0)].err, "kafka-acls")
	require.False(t, flow.IsTransient(e.parts[b.id(0)].err))
}

func TestMissingRightsStopTheStartWithTheCure(t *testing.T) {
	t.Parallel()
	for _, f := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1},
		{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed, Count: -1},
	} {
		c, b := cluster(t, 1, 1)
		c.Fault(f)
		e := launch(t, b.config(), nil)
		e.all.Wait()
		require.ErrorContains(t, e.runErr, "kafka-acls")
		require.False(t, flow.IsTransient(e.runErr))
	}
}

// A leader that was elected without what we have read has other records at the same offsets.
func TestALogThatHasLostWhatWasReadStopsWithTheCure(t *testing.T) {
	t.Parallel()
	c, b := cluster(t, 1, 1)
	b.send(0, numbers(0, 10)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 10) })
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f := req.(*kmsg.FetchRequest)
		resp := f.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range f.Topics {
			if len(rt.Partitions) == 0 || rt.Partitions[0].LastFetchedEpoch < 0 {
				return nil, nil, false
			}
			p := kmsg.NewFetchResponseTopicPartition()
			p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = 0, 7
			at := kmsg.NewFetchResponseTopic()
			at.Topic, at.TopicID, at.Partitions = rt.Topic, rt.TopicID, append(at.Partitions, p)
			resp.Topics = append(resp.Topics, at)
		}
		return resp, nil, true
	})
	e.until("stopped", func(parts map[string]*partLog) bool { return parts[b.id(0)].err != nil })
	for _, part := range []string{"from offset 7 on", "offset 10", "unclean leader", "flow.DropState"} {
		require.ErrorContains(t, e.parts[b.id(0)].err, part)
	}
}

// Watermill's subscriber ends its claim at a message that it cannot unmarshal, and comes back to it for ever.
func TestADamagedBatchIsFetchedAgainAndThenStopsWithItsOffset(t *testing.T) {
	t.Parallel()
	c, b := cluster(t, 1, 1)
	b.send(0, numbers(0, 10)...)
	damage := func(times int) {
		c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
			if times == 0 {
				return nil, nil, false
			}
			times--
			c.KeepControl()
			f := kreq.(*kmsg.FetchRequest)
			resp := f.ResponseKind().(*kmsg.FetchResponse)
			batch := kmsg.NewRecordBatch()
			batch.FirstOffset, batch.Magic, batch.NumRecords, batch.Length, batch.CRC = f.Topics[0].Partitions[0].FetchOffset, 2, 1, 49+10, 1
			batch.Records = make([]byte, 10)
			p := kmsg.NewFetchResponseTopicPartition()
			p.RecordBatches, p.HighWatermark = batch.AppendTo(nil), 20
			at := kmsg.NewFetchResponseTopic()
			at.Topic, at.TopicID, at.Partitions = f.Topics[0].Topic, f.Topics[0].TopicID, append(at.Partitions, p)
			resp.Topics = append(resp.Topics, at)
			return resp, nil, true
		})
	}
	damage(1)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 10) })
	require.Equal(t, int64(1), e.count("damaged"))
	damage(1000)
	b.send(0, numbers(10, 10)...)
	e.until("stopped", func(parts map[string]*partLog) bool { return parts[b.id(0)].err != nil })
	require.ErrorContains(t, e.parts[b.id(0)].err, "offset 10")
	require.ErrorContains(t, e.parts[b.id(0)].err, "kafka-delete-records")
}

// Somebody who joins the group would take its offsets over.
func TestAGroupThatOthersJoinStopsTheCommitWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, numbers(0, 10)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 10) })
	other, err := kgo.NewClient(kgo.SeedBrokers(b.set.Kafka()), kgo.ConsumerGroup(b.config().Group), kgo.ConsumeTopics(b.topic))
	require.NoError(t, err)
	defer other.Close()
	require.Equal(t, 10, other.PollFetches(t.Context()).NumRecords())
	require.Eventually(t, func() bool {
		err = e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, e.parts[b.id(0)].pos)
		return err != nil && !flow.IsTransient(err)
	}, 10*time.Second, 20*time.Millisecond)
	require.ErrorContains(t, err, "a group of its own")
}

// Each partition's commit is a call of its own; those of an epoch share requests.
func TestCommitsOfManyPartitionsShareRequests(t *testing.T) {
	t.Parallel()
	const n = 50
	requests, started, release := 0, make(chan struct{}), make(chan struct{})
	c := committer{store: func(_ context.Context, offsets map[kafka.Key]kafka.Offset) (map[kafka.Key]error, error) {
		if requests++; requests == 1 {
			close(started)
			<-release
		}
		failed := map[kafka.Key]error{}
		if _, ok := offsets[kafka.Key{Topic: "t", Partition: 7}]; ok {
			failed[kafka.Key{Topic: "t", Partition: 7}] = fmt.Errorf("no")
		}
		return failed, nil
	}}
	errs := make(chan error, n)
	commit := func(p int) {
		errs <- c.commit(t.Context(), kafka.Key{Topic: "t", Partition: int32(p)}, kafka.Offset{At: 1})
	}
	go commit(0)
	<-started
	for p := 1; p < n; p++ {
		go commit(p)
	}
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.waiting != nil && len(c.waiting.offsets) == n-1
	}, 5*time.Second, time.Millisecond)
	close(release)
	failed := 0
	for range n {
		if <-errs != nil {
			failed++
		}
	}
	require.Equal(t, 2, requests)
	require.Equal(t, 1, failed)
}
