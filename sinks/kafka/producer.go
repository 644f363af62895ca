package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// producer writes blocks.
type producer struct {
	cfg      Config
	byRecord bool // records name their topics
	rt       flow.SinkRuntime
	client   *kgo.Client
	outages  kafka.Outages
	opened   time.Time
	tx       transaction

	ctx  context.Context // of the feeder: until Close
	stop context.CancelFunc
	all  sync.WaitGroup

	topicsMu sync.RWMutex
	targets  map[string]*target

	mu      sync.Mutex
	queue   []*block // to be fed
	feeding bool
	settled int64 // records that are acked or failed
}

// open finds the topic; the engine repeats it after a transient error.
func (p *producer) open(ctx context.Context, rt flow.SinkRuntime) error {
	if p.client == nil {
		if err := p.cfg.validate(p.byRecord); err != nil {
			return err
		}
		p.rt, p.opened = rt, rt.Clock.Now()
		p.outages = kafka.Outages{Clock: rt.Clock, Log: rt.Log, Count: rt.Count}
		p.ctx, p.stop = context.WithCancel(context.Background())
		if err := p.dial(); err != nil {
			return err
		}
	}
	if !p.byRecord {
		err := p.resolve(ctx, p.cfg.Topic)
		var missing *missingError
		if errors.As(err, &missing) && rt.Clock.Now().Sub(p.opened) < p.cfg.TopicWait {
			return flow.Transient(err)
		}
		if err != nil {
			return err
		}
	}
	return p.fence(ctx)
}

func (p *producer) dial() error {
	codec, _ := compression(p.cfg.Compression) // validated
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytesFn(p.batchBytes),
		kgo.BrokerMaxWriteBytes(100 << 20),
		kgo.MaxBufferedRecords(p.cfg.InFlight),
		kgo.ProducerLinger(linger),
		kgo.ProduceRequestTimeout(p.cfg.Timeout),
		kgo.UnknownTopicRetries(unknownTopicTries),
		kgo.WithHooks(p.outages.ProduceHooks()),
	}
	if p.cfg.TransactionalID != "" {
		opts = append(opts, kgo.TransactionalID(p.cfg.TransactionalID), kgo.TransactionTimeout(p.cfg.TransactionTimeout))
	}
	client, err := kafka.Open(p.cfg.Connection, opts...)
	if err != nil {
		return err
	}
	p.client = client
	return nil
}

const (
	// linger is how long the client waits for a batch to grow.
	linger = 2 * time.Millisecond
	// unknownTopicTries are some seconds: a broker that has just started may not know its topics.
	unknownTopicTries = 20
)

func (p *producer) close() {
	if p.client == nil {
		return
	}
	p.leave()
	p.stop()
	p.client.Close()
	p.all.Wait()
}
