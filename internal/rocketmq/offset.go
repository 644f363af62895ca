package rocketmq

import (
	"context"
	"strconv"
	"time"
)

// MinOffset is the offset of the oldest message of a queue that the broker still has.
func (c *Client) MinOffset(ctx context.Context, addr, topic string, q Queue) (int64, error) {
	return c.offset(ctx, addr, 31, queueExt(topic, q))
}

// MaxOffset is the offset that the next message of a queue will get.
func (c *Client) MaxOffset(ctx context.Context, addr, topic string, q Queue) (int64, error) {
	return c.offset(ctx, addr, 30, queueExt(topic, q))
}

// OffsetAt is the offset of the first message stored at t or later; behind the last message when there is none.
func (c *Client) OffsetAt(ctx context.Context, addr, topic string, q Queue, t time.Time) (int64, error) {
	ext := queueExt(topic, q)
	ext["timestamp"] = strconv.FormatInt(t.UnixMilli(), 10)
	return c.offset(ctx, addr, 29, ext)
}

// Committed is the offset that the broker remembers for a group, and whether it remembers one.
func (c *Client) Committed(ctx context.Context, addr, group, topic string, q Queue) (int64, bool, error) {
	ext := queueExt(topic, q)
	ext["consumerGroup"] = group
	// Else the broker answers 0 for a group that it does not know, while everything is in memory.
	ext["setZeroIfNotFound"] = "false"
	n, err := c.offset(ctx, addr, 14, ext)
	if IsCode(err, QueryNotFound) {
		return 0, false, nil
	}
	return n, err == nil, err
}

// Commit stores a group's offset on the broker and returns when the broker said that it did.
func (c *Client) Commit(ctx context.Context, addr, group, topic string, q Queue, offset int64) error {
	ext := queueExt(topic, q)
	ext["consumerGroup"] = group
	ext["commitOffset"] = strconv.FormatInt(offset, 10)
	resp, err := c.Call(ctx, addr, Request{Code: 15, Ext: ext})
	if err != nil {
		return err
	}
	defer resp.Release()
	return resp.Err()
}

func queueExt(topic string, q Queue) map[string]string {
	ext := make(map[string]string, 6)
	ext["topic"], ext["queueId"], ext["bname"] = topic, strconv.Itoa(q.ID), q.Broker
	return ext
}

func (c *Client) offset(ctx context.Context, addr string, code int, ext map[string]string) (int64, error) {
	resp, err := c.Call(ctx, addr, Request{Code: code, Ext: ext})
	if err != nil {
		return 0, err
	}
	defer resp.Release()
	if err := resp.Err(); err != nil {
		return 0, err
	}
	return resp.Int("offset")
}
