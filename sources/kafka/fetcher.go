package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// fetcher asks one broker for the partitions that it leads, one fetch after the other, each for all partitions whose inbox has
// room. A partition without room is left out, so that it holds nobody back.
type fetcher struct {
	hub    *hub
	broker int32
	wake   chan struct{}

	refused int      // permanent errors in a row
	boxes   []*inbox // under the hub's lock
	first   int      // of the next fetch: answers are filled in the order of asking
}

// leftOutWait bounds a fetch while a partition is left out of it, which may have room again any moment.
const leftOutWait = 20 * time.Millisecond

func (f *fetcher) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// asked is what a fetch asks for one partition.
type asked struct {
	box   *inbox
	round int
}

func (f *fetcher) run(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		req, boxes := f.request()
		if len(boxes) == 0 {
			select {
			case <-f.wake:
			case <-ctx.Done():
			}
			continue
		}
		resp, err := f.hub.client.Broker(int(f.broker)).Request(ctx, req)
		var stuck bool
		if err == nil {
			stuck, err = f.answer(ctx, resp.(*kmsg.FetchResponse), boxes)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !stuck:
			pause, f.refused = backoff{}, 0
			continue
		case err != nil:
			f.failed(ctx, boxes, err)
		}
		if f.hub.rt.Clock.Sleep(ctx, pause.next()) != nil {
			return
		}
	}
}

// request builds the next fetch, and says whom its answers are for.
func (f *fetcher) request() (*kmsg.FetchRequest, map[kafka.Key]asked) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	cfg := &f.hub.cfg
	req := kmsg.NewPtrFetchRequest()
	req.MinBytes, req.MaxBytes, req.SessionEpoch = 1, int32(cfg.FetchBytes), -1
	if cfg.committed() {
		req.IsolationLevel = 1
	}
	wait := cfg.PollTimeout
	boxes := make(map[kafka.Key]asked, len(f.boxes))
	topics := map[string]int{}
	f.first++
	for i := range f.boxes {
		b := f.boxes[(f.first+i)%len(f.boxes)]
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = int32(cfg.PartitionBytes)
		round, ok, full := b.ask(&p)
		if full {
			wait = min(wait, leftOutWait)
		}
		if !ok {
			continue
		}
		boxes[b.key] = asked{b, round}
		at, known := topics[b.key.Topic]
		if !known {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = b.key.Topic, b.id
			at = len(req.Topics)
			topics[b.key.Topic] = at
			req.Topics = append(req.Topics, t)
		}
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, p)
	}
	req.MaxWaitMillis = int32(wait.Milliseconds())
	return req, boxes
}

// answer hands the parts of an answer out. stuck tells that a partition did not move though there are records.
func (f *fetcher) answer(ctx context.Context, resp *kmsg.FetchResponse, boxes map[kafka.Key]asked) (stuck bool, err error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return false, err
	}
	f.hub.outages.Up(f.broker)
	disown(resp)
	names := map[kafka.TopicID]string{}
	for k, a := range boxes {
		names[a.box.id] = k.Topic
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		name := t.Topic
		if name == "" {
			name = names[t.TopicID]
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			a, ok := boxes[kafka.Key{Topic: name, Partition: p.Partition}]
			if !ok {
				continue
			}
			if !f.part(ctx, a, p) {
				stuck = true
			}
		}
	}
	return stuck, nil
}

// disown copies the parts of an answer that are a small piece of it, so that a partition that is not read keeps no other's records in
// memory.
func disown(resp *kmsg.FetchResponse) {
	total := 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			total += len(resp.Topics[i].Partitions[j].RecordBatches)
		}
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; len(p.RecordBatches) < total/2 {
				p.RecordBatches = bytes.Clone(p.RecordBatches)
			}
		}
	}
}

// part takes what an answer says of one partition; false asks for a pause.
func (f *fetcher) part(ctx context.Context, a asked, p *kmsg.FetchResponseTopicPartition) bool {
	err := kerr.ErrorForCode(p.ErrorCode)
	switch {
	case err == nil && p.DivergingEpoch.EndOffset >= 0:
		a.box.fail(a.round, &divergedError{end: p.DivergingEpoch.EndOffset})
		return true
	case err == nil:
		return a.box.put(a.round, p)
	case errors.Is(err, kerr.OffsetOutOfRange):
		a.box.fail(a.round, errOutOfRange)
		return true
	}
	if err := kafka.Err(ctx, err); !flow.IsTransient(err) {
		a.box.fail(a.round, err)
		return true
	}
	f.hub.lostLeader(a.box) // whatever it is: perhaps another broker leads by now
	return false
}

// failed deals with a broker that does not answer: its partitions are not idle, and may soon be led by others.
func (f *fetcher) failed(ctx context.Context, boxes map[kafka.Key]asked, err error) {
	err = kafka.Err(ctx, err)
	if !flow.IsTransient(err) {
		f.refused++ // a broker that has just started may refuse logins for a moment
	}
	if f.refused >= patience {
		for _, a := range boxes {
			a.box.fail(anyRound, fmt.Errorf("kafka source: broker %d: %w", f.broker, err))
		}
		return
	}
	f.hub.rt.Count("reconnects", 1)
	f.hub.outages.Down(f.broker, err)
	for _, a := range boxes {
		a.box.in.Busy()
	}
	f.hub.askRefresh()
}

var errOutOfRange = errors.New("offset out of range")

// divergedError says that the log now ends, for the epoch that we read last, before what we read.
type divergedError struct{ end int64 }

func (e *divergedError) Error() string {
	return fmt.Sprintf("the log has lost what was read from offset %d on", e.end)
}
