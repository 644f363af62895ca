package rocketmq

import (
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
	// Suspend is how long the broker keeps the request when there is nothing; 0 makes it answer at once.
	Suspend time.Duration
}

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
	ext["subscription"] = "*"
	ext["subVersion"] = "0"
	ext["expressionType"] = "TAG"
	return Request{Code: 11, Ext: ext}
}

// Pulled is a broker's answer to a pull.
type Pulled struct {
	// Next is where to go on, Min and Max are the queue's bounds: the oldest offset there is and the one to come.
	Next, Min, Max int64
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
