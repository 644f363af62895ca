package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// reader reads one partition from its inbox. While it decodes an answer the next is already being fetched.
type reader struct {
	hub    *hub
	key    kafka.Key
	box    *inbox
	sink   intake
	offset int64 // the next one to read

	mem       memory
	opts      kgo.ProcessFetchPartitionOpts
	unzip     kgo.Decompressor
	behindEnd int // times in a row that the partition was found to end before offset
	damaged   int // answers in a row that could not be parsed
}

// patience is how often, about a second apart, brokers may say something that only a recovery explains before it is the truth.
const patience = 5

// newReader makes a reader. reuse says that payloads' memory may be used again.
func newReader(h *hub, k kafka.Key, reuse bool) *reader {
	r := &reader{hub: h, key: k, box: newInbox(k)}
	pools := []kgo.Pool{&r.mem.slab}
	if reuse {
		pools = append(pools, &r.mem.scratch)
	}
	r.opts = kgo.ProcessFetchPartitionOpts{
		IsolationLevel: h.cfg.isolation(), Topic: k.Topic, Partition: k.Partition, Pools: pools,
	}
	r.unzip = kgo.DefaultDecompressor(pools...)
	return r
}

// begin finds the offset to start at: a known position's, or the configured one. pin asks for it to be kept with the
// first epoch, so that a restart before the first record begins at the same place.
func (r *reader) begin(ctx context.Context, from flow.Position) (pin bool, err error) {
	h := r.hub
	h.mu.Lock()
	r.box.id = h.topics[r.key.Topic].ID
	start := h.begins[r.key]
	h.mu.Unlock()
	if !from.IsZero() {
		if id := parseToken(from.Token).id; id != "-" && r.box.id != (kafka.TopicID{}) && id != r.box.id.String() {
			return false, r.errorf("%w", errRecreated)
		}
		r.offset = from.Offset
		return false, nil
	}
	err = r.retry(ctx, func() (err error) {
		r.offset, err = kafka.ListOffset(ctx, h.client, h.cfg.Timeout, r.key.Topic, r.key.Partition, start, h.cfg.committed())
		return err
	})
	return err == nil && (r.offset > 0 || start != kafka.Earliest), err
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) error {
	r.box.next, r.box.in = r.offset, r.sink
	r.hub.attach(r.box)
	defer r.hub.detach(r.box)
	for {
		c, err := r.box.take(ctx)
		if err != nil {
			return err
		}
		r.fetchMore()
		if c.err != nil {
			err = r.failed(ctx, c.err)
		} else {
			err = r.chunk(ctx, c)
		}
		if err != nil {
			return err
		}
	}
}

// fetchMore tells the fetcher that there is room.
func (r *reader) fetchMore() {
	r.hub.mu.Lock()
	f := r.box.at
	r.hub.mu.Unlock()
	if f != nil {
		f.signal()
	}
}

// chunk hands one answer's records over.
func (r *reader) chunk(ctx context.Context, c chunk) error {
	r.opts.Offset = r.offset
	r.mem.reset()
	fp, next := kgo.ProcessFetchPartition(r.opts, c.part, r.unzip, r.mem.scratch.measure)
	if next > r.offset {
		if err := r.sink.emit(ctx, fp.Records, next); err != nil {
			return err
		}
		r.offset, r.behindEnd = next, 0
	}
	if end, _ := span(c.part.RecordBatches); fp.Err != nil || next < end {
		return r.damage(ctx, fp.Err)
	}
	r.damaged = 0
	lag := max(fp.HighWatermark-r.offset, 0)
	r.sink.Lag(lag)
	if lag == 0 && r.box.empty() {
		r.sink.Idle() // the broker said so: asked, and nothing there behind these
	}
	return nil
}

// damage fetches again what could not be parsed: the network may have done it. If the log is damaged nothing helps.
func (r *reader) damage(ctx context.Context, err error) error {
	if err == nil {
		err = errors.New("a batch that ends too early")
	}
	r.hub.rt.Count("damaged", 1)
	if r.damaged++; r.damaged >= patience {
		return r.errorf("the batch at offset %d cannot be read: %w; the log is damaged there, or its compression is unknown: "+
			"restore the partition from a replica, or delete its records up to the damage (kafka-delete-records)", r.offset, err)
	}
	r.sink.Busy()
	r.box.reset(r.offset)
	r.fetchMore()
	return r.hub.rt.Clock.Sleep(ctx, kafka.MaxBackoff)
}

// failed handles what a fetcher or the refresher says instead of records.
func (r *reader) failed(ctx context.Context, err error) error {
	var diverged *divergedError
	switch {
	case errors.As(err, &diverged):
		return r.errorf("%w, and the position is offset %d: the brokers lost records, or an unclean leader was elected; %s", err, r.offset, r.startAnew())
	case !errors.Is(err, errOutOfRange):
		return r.errorf("%w", err)
	}
	r.sink.Busy()
	var first, last int64
	err = r.retry(ctx, func() (err error) {
		h := r.hub
		if first, err = kafka.ListOffset(ctx, h.client, h.cfg.Timeout, r.key.Topic, r.key.Partition, kafka.Earliest, false); err == nil {
			last, err = kafka.ListOffset(ctx, h.client, h.cfg.Timeout, r.key.Topic, r.key.Partition, kafka.Latest, false)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case r.offset < first:
		r.hub.lost(r.key, r.offset, first)
		r.offset = first
	case r.offset > last:
		// A broker that recovers may say this for a moment; five answers over some seconds are the truth.
		if r.behindEnd++; r.behindEnd >= patience {
			return r.errorf("the position is offset %d, but the partition ends at %d: the topic was deleted and created again, or "+
				"the brokers lost records; %s", r.offset, last, r.startAnew())
		}
		if err := r.hub.rt.Clock.Sleep(ctx, kafka.MaxBackoff); err != nil {
			return err
		}
	default:
		if err := r.hub.rt.Clock.Sleep(ctx, kafka.MinBackoff); err != nil {
			return err
		}
	}
	r.box.reset(r.offset)
	r.fetchMore()
	return nil
}

func (r *reader) startAnew() string {
	return "to read what is there now, start under a new group and a new topology name (or flow.DropState), or reset the group " +
		"(kafka-consumer-groups --reset-offsets)"
}

func (r *reader) errorf(format string, args ...any) error {
	return fmt.Errorf("kafka source: partition %d of topic %q: "+format, append([]any{r.key.Partition, r.key.Topic}, args...)...)
}

// retry calls f until it succeeds, ctx ends or its error is permanent.
func (r *reader) retry(ctx context.Context, f func() error) error {
	var pause backoff
	for {
		err := f()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case !flow.IsTransient(err):
			return r.errorf("%w", err)
		}
		r.sink.Busy()
		if err := r.hub.rt.Clock.Sleep(ctx, pause.next()); err != nil {
			return err
		}
	}
}
