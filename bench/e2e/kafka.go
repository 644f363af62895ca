package e2e

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/internal/kafka"
	kafkasink "github.com/millrace-stream/millrace/sinks/kafka"
	kafkasource "github.com/millrace-stream/millrace/sources/kafka"
)

// Kafka are a bare poll loop of franz-go over a topic that lies ready, and job F from that topic to ClickHouse.
func Kafka(s Servers) (bare, path Bench) {
	p := &prepared{log: &kafkaLog{conn: kafka.Connection{Brokers: []string{s.Kafka}}, topic: name("kafka")}, servers: s}
	return bareLog{p}, &pathLog{prepared: p}
}

type kafkaLog struct {
	conn  kafka.Connection
	topic string
}

func (k *kafkaLog) label() string { return "kafka" }

// fill writes with the compression that the sink of this project has.
func (k *kafkaLog) fill(ctx context.Context, p *workload.Payloads, n int64, closing []byte) error {
	if err := kafkasink.CreateTopic(ctx, k.conn, k.topic, partitions); err != nil {
		return err
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(k.conn.Brokers...), kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	var failed error // promises are kept one at a time
	promise := func(_ *kgo.Record, err error) {
		if failed == nil {
			failed = err
		}
	}
	for i := range n {
		payload := p.Append(nil, i)
		device := deviceOf(payload)
		c.Produce(ctx, &kgo.Record{Topic: k.topic, Partition: int32(partitionOf(device)), Key: device, Value: payload}, promise)
	}
	for q := range int32(partitions) {
		c.Produce(ctx, &kgo.Record{Topic: k.topic, Partition: q, Value: closing}, promise)
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	return failed
}

func (k *kafkaLog) bare(ctx context.Context, n int64) error {
	at := map[int32]kgo.Offset{}
	for q := range int32(partitions) {
		at[q] = kgo.NewOffset().AtStart()
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(k.conn.Brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{k.topic: at}))
	if err != nil {
		return err
	}
	defer c.Close()
	var got, bytes int64
	for got < n {
		fs := c.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		fs.EachRecord(func(r *kgo.Record) { bytes += int64(len(r.Value)) })
		got += int64(fs.NumRecords())
	}
	if got != n || bytes == 0 {
		return fmt.Errorf("the topic has %d records of %d bytes, and not %d", got, bytes, n)
	}
	return nil
}

func (k *kafkaLog) source(group string) flow.Source[jobs.Reading] {
	return kafkasource.Source(kafkasource.Config{Connection: k.conn, Topics: []string{k.topic}, Group: group}, jobs.ReadingCodec(fields.Alias()))
}

func (k *kafkaLog) close(ctx context.Context) error {
	c, err := kafka.Open(k.conn.WithDefaults())
	if err != nil {
		return err
	}
	defer c.Close()
	return kafka.DeleteTopics(ctx, c, 10*time.Second, k.topic)
}
