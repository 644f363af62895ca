package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// CreateTopic creates a topic with that many queues on every broker and waits until the name servers tell its route, which
// takes seconds after a fresh start. A topic that exists gets the number of queues; its messages stay.
func CreateTopic(ctx context.Context, nameServers []string, topic string, queues int) error {
	c, err := New(Options{NameServers: nameServers})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.CreateTopic(ctx, flow.SystemClock(), topic, queues)
}

// CreateTopic does the same with a client that exists already.
func (c *Client) CreateTopic(ctx context.Context, clock flow.Clock, topic string, queues int) error {
	if queues < 1 {
		return fmt.Errorf("rocketmq: topic %q: %d queues: want at least 1", topic, queues)
	}
	n := strconv.Itoa(queues)
	req := Request{Code: 17, Ext: map[string]string{
		"topic": topic, "defaultTopic": autoTopic, "readQueueNums": n, "writeQueueNums": n, "perm": strconv.Itoa(permRead | permWrite),
		"topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
	}}
	brokers, err := c.Brokers(ctx)
	for err == nil && len(brokers) == 0 || flow.IsTransient(err) { // a fresh broker registers within seconds
		if e := clock.Sleep(ctx, pollRoute); e != nil {
			return fmt.Errorf("rocketmq: create topic %q: no broker is registered: %w", topic, errors.Join(e, err))
		}
		brokers, err = c.Brokers(ctx)
	}
	if err != nil {
		return fmt.Errorf("rocketmq: create topic %q: %w", topic, err)
	}
	for name, addr := range brokers {
		resp, err := c.Call(ctx, addr, req)
		if err == nil {
			err = resp.Err()
			resp.Release()
		}
		if err != nil {
			return fmt.Errorf("rocketmq: create topic %q on %s: %w", topic, name, err)
		}
	}
	for {
		r, err := c.Route(ctx, topic)
		if err == nil && len(r.Writable) >= queues*len(brokers) {
			return nil
		}
		if e := clock.Sleep(ctx, pollRoute); e != nil {
			return fmt.Errorf("rocketmq: create topic %q: its route does not appear: %w", topic, errors.Join(e, err))
		}
	}
}

const (
	// autoTopic is the topic whose settings a broker takes for topics that it creates by itself.
	autoTopic = "TBW102"
	pollRoute = 50 * time.Millisecond
)
