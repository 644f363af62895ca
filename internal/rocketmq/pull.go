package rocketmq

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Pull asks a queue's broker for messages.
type Pull struct {
	Group, Topic string
	Queue        Queue
	Offset       int64
	// Max is the most messages wanted; the broker has limits of its own.
	Max int
	// Filter says which messages are wanted. Zero means all.
	Filter Filter
	// Suspend is how long the broker keeps the request when there is nothing; 0 makes it answer at once.
	Suspend time.Duration
}

// Filter is a subscription's expression.
type Filter struct {
	// Expression is "tag || tag" or a condition on properties.
	Expression string
	// SQL makes it a condition in SQL92 instead of tags.
	SQL bool
}

// CheckFilter asks a broker whether it understands a filter. It must be asked: with a condition that it cannot parse a pull brings
// all messages.
func (c *Client) CheckFilter(ctx context.Context, addr, group, topic string, f Filter) error {
	if !f.SQL {
		return nil
	}
	body, err := json.Marshal(map[string]any{"clientId": "millrace", "group": group, "subscriptionData": map[string]any{
		"topic": topic, "subString": f.Expression, "expressionType": sql92,
	}})
	if err != nil {
		return fmt.Errorf("rocketmq: encode subscription: %w", err)
	}
	resp, err := c.Call(ctx, addr, Request{Code: 46, Body: [][]byte{body}})
	if err != nil {
		return err
	}
	defer resp.Release()
	return resp.Err()
}

const sql92 = "SQL92"

const (
	pullSuspend      = 1 << 1
	pullSubscription = 1 << 2 // the subscription comes with the pull: the group need not be registered by heartbeats
)

// Request is the command to send.
func (p Pull) Request() Request {
	flag := pullSubscription
	if p.Suspend > 0 {
		flag |= pullSuspend
	}
	ext := queueExt(p.Topic, p.Queue)
	ext["consumerGroup"] = p.Group
	ext["queueOffset"] = strconv.FormatInt(p.Offset, 10)
	ext["maxMsgNums"] = strconv.Itoa(p.Max)
	ext["sysFlag"] = strconv.Itoa(flag)
	ext["commitOffset"] = "0"
	ext["suspendTimeoutMillis"] = strconv.FormatInt(p.Suspend.Milliseconds(), 10)
	ext["subscription"] = cmp.Or(p.Filter.Expression, "*")
	ext["subVersion"] = "0"
	ext["expressionType"] = "TAG"
	if p.Filter.SQL {
		ext["expressionType"] = sql92
	}
	return Request{Code: 11, Ext: ext}
}

// Pulled is a broker's answer to a pull.
type Pulled struct {
	// Next is where to go on, Min and Max are the queue's bounds: the oldest offset there is and the one to come.
	Next, Min, Max int64
}

// Unwanted tells whether an answer to a pull has no messages because the filter does not want those that are there. The same code
// says that their file is gone.
func (r *Response) Unwanted() bool {
	return r.Code == PullRetryAtOnce && r.Remark == "NO_MATCHED_MESSAGE"
}

// Pulled reads the fields of an answer to a pull that has them: success and the pull codes.
func (r *Response) Pulled() (p Pulled, err error) {
	if p.Next, err = r.Int("nextBeginOffset"); err != nil {
		return p, err
	}
	if p.Min, err = r.Int("minOffset"); err != nil {
		return p, err
	}
	p.Max, err = r.Int("maxOffset")
	return p, err
}
