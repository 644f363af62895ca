package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// RocketMQ are a bare pull loop over a topic that lies ready, and job F from that topic to ClickHouse. Both speak the protocol through the same
// client, the one of this project; a pull takes 1,024 messages.
func RocketMQ(s Servers) (bare, path Bench) {
	p := &prepared{log: &rocketmqLog{
		conn: rocketmq.Connection{NameServers: []string{s.NameServer}, Timeout: 20 * time.Second}, broker: s.Broker, topic: name("rocketmq"),
	}, servers: s}
	return bareLog{p}, &pathLog{prepared: p}
}

type rocketmqLog struct {
	conn          rocketmq.Connection
	broker, topic string
}

const pull = 1024

func (r *rocketmqLog) label() string { return "rocketmq" }

func queue(i int) rocketmq.Queue { return rocketmq.Queue{Broker: "broker-a", ID: i} }

// fill sends in batches, one after the other in each queue.
func (r *rocketmqLog) fill(ctx context.Context, p *workload.Payloads, n int64, closing []byte) error {
	c, err := rocketmq.NewClient(r.conn)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.CreateTopic(ctx, flow.SystemClock(), r.topic, partitions); err != nil {
		return err
	}
	var data [partitions][]byte
	var rows [partitions]int
	send := func(q int) error {
		a, err := c.Call(ctx, r.broker, rocketmq.SendBatch("e2e", r.topic, queue(q), time.Now(), data[q]))
		if err != nil {
			return err
		}
		defer a.Release()
		data[q], rows[q] = data[q][:0], 0
		return a.Err()
	}
	add := func(q int, device string, payload []byte) error {
		props, err := rocketmq.AppendProperty(nil, rocketmq.ShardingKey, device)
		if err != nil {
			return err
		}
		if data[q], err = rocketmq.AppendMessage(data[q], payload, props); err != nil {
			return err
		}
		if rows[q]++; rows[q] == pull {
			return send(q)
		}
		return nil
	}
	var payload []byte
	for i := range n {
		payload = p.Append(payload[:0], i)
		device := deviceOf(payload)
		if err := add(partitionOf(device), string(device), payload); err != nil {
			return err
		}
	}
	for q := range data {
		if err := add(q, "closing", closing); err != nil {
			return err
		}
		if rows[q] > 0 {
			if err := send(q); err != nil {
				return err
			}
		}
	}
	return r.visible(ctx, c, n+partitions)
}

// visible waits until readers see n messages: a broker confirms them a moment before.
func (r *rocketmqLog) visible(ctx context.Context, c *rocketmq.Client, n int64) error {
	for {
		var sum int64
		for q := range partitions {
			m, err := c.MaxOffset(ctx, r.broker, r.topic, queue(q))
			if err != nil {
				return err
			}
			sum += m
		}
		if sum >= n {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *rocketmqLog) bare(ctx context.Context, n int64) error {
	c, err := rocketmq.NewClient(r.conn)
	if err != nil {
		return err
	}
	defer c.Close()
	var got, bytes atomic.Int64
	all, ctx := errgroup.WithContext(ctx)
	for q := range partitions {
		all.Go(func() error {
			conn, err := c.Dial(ctx, r.broker)
			if err != nil {
				return err
			}
			defer conn.Close()
			records, size, err := drain(ctx, conn, rocketmq.Pull{Group: "bare", Topic: r.topic, Queue: queue(q), Max: pull})
			got.Add(records)
			bytes.Add(size)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	if got.Load() != n || bytes.Load() == 0 {
		return fmt.Errorf("the topic has %d messages of %d bytes, and not %d", got.Load(), bytes.Load(), n)
	}
	return nil
}

// drain pulls a queue to its end, one pull after the other.
func drain(ctx context.Context, conn *rocketmq.Conn, p rocketmq.Pull) (records, bytes int64, err error) {
	for {
		call, err := conn.Start(p.Request())
		if err != nil {
			return records, bytes, err
		}
		r, err := call.Wait(ctx)
		if err != nil {
			return records, bytes, err
		}
		if r.Code == rocketmq.PullNotFound {
			r.Release()
			return records, bytes, nil
		}
		if err := r.Err(); err != nil {
			return records, bytes, err
		}
		at, err := r.Pulled()
		if err != nil {
			return records, bytes, err
		}
		var m rocketmq.Message
		for msgs := rocketmq.NewMessages(r.Body); msgs.More(); {
			if err := msgs.Next(&m); err != nil {
				return records, bytes, err
			}
			records++
			bytes += int64(len(m.Body))
		}
		p.Offset = at.Next
		r.Release()
	}
}

func (r *rocketmqLog) source(group string) flow.Source[jobs.Reading] {
	return rocketmqsource.Source(rocketmqsource.Config{
		Connection: r.conn, Topic: r.topic, Group: group, Batch: pull, PollTimeout: time.Second,
	}, jobs.ReadingCodec()) // strings that point into answers would keep their memory from being used again
}

// close leaves the topic: brokers expire what they keep.
func (r *rocketmqLog) close(context.Context) error { return nil }
