package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Brokers forget a producer that has not said anything for two minutes.
const heartbeat = 20 * time.Second

// checkBacks answers brokers that ask what became of half messages.
type checkBacks struct {
	stop context.CancelFunc
	all  sync.WaitGroup
}

// answerBrokers keeps a connection to each of the queues' brokers, on which the broker may ask, until stop is called.
func (p *producer) answerBrokers() {
	ctx, stop := context.WithCancel(context.Background())
	p.checks = &checkBacks{stop: stop}
	seen := map[string]bool{}
	for _, q := range p.queues {
		if !seen[q.Broker] {
			seen[q.Broker] = true
			p.checks.all.Go(func() { p.answer(ctx, q.Broker) })
		}
	}
}

func (c *checkBacks) close() {
	if c != nil {
		c.stop()
		c.all.Wait()
	}
}

// answer is a producer of its group for one broker, connection after connection.
func (p *producer) answer(ctx context.Context, broker string) {
	warned := false
	for {
		err := p.answerOn(ctx, broker)
		if ctx.Err() != nil {
			return
		}
		var refusal *rocketmq.ServerError
		if !warned && errors.As(err, &refusal) && !flow.IsTransient(err) {
			warned = true
			p.rt.Log.Warn("rocketmq: the broker refuses a producer of transactions; half messages that a crash leaves stay until it drops them",
				"broker", broker, "group", p.cfg.Group, "err", err)
		}
		if p.rt.Clock.Sleep(ctx, time.Second) != nil {
			return
		}
	}
}

func (p *producer) answerOn(ctx context.Context, broker string) error {
	asked := make(chan *rocketmq.Response, 1024)
	conn, err := p.client.Listen(ctx, p.addr(broker), func(r *rocketmq.Response) {
		if r.Code == rocketmq.CheckBack {
			select {
			case asked <- r:
				return
			default: // more than we can answer: the broker asks again
			}
		}
		r.Release()
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	hello, err := rocketmq.Heartbeat("millrace@"+p.tx.owner, p.cfg.Group)
	if err != nil {
		return err
	}
	timer := p.rt.Clock.NewTimer(heartbeat)
	defer timer.Stop()
	for {
		call, err := conn.Start(hello)
		if err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, heartbeat)
		resp, err := call.Wait(wait)
		cancel()
		if err != nil {
			return err
		}
		err = resp.Err()
		resp.Release()
		if err != nil {
			return err
		}
		timer.Reset(heartbeat)
		for beat := false; !beat; {
			select {
			case <-ctx.Done():
				return nil
			case <-conn.Done():
				return conn.Err()
			case <-timer.C():
				beat = true
			case r := <-asked:
				p.answerOne(ctx, broker, r)
			}
		}
	}
}

// answerOne tells a broker what becomes of a half message. Without an answer it asks again.
func (p *producer) answerOne(ctx context.Context, broker string, r *rocketmq.Response) {
	defer r.Release()
	h, err := r.CheckedHalf()
	var m rocketmq.Message
	if err == nil {
		msgs := rocketmq.NewMessages(r.Body)
		err = msgs.Next(&m)
	}
	if err != nil {
		p.rt.Log.Warn("rocketmq: a broker asks for a half message in a way that is not understood", "broker", broker, "err", err)
		return
	}
	f := p.tx.judge(string(m.Properties.Get(rocketmq.Transaction)), h)
	p.rt.Count("transaction_checks", 1)
	if f == unknown {
		return
	}
	name := "checked_rollbacks"
	if f == commit {
		name = "checked_commits"
	}
	resp, err := p.client.Call(ctx, p.addr(broker), rocketmq.EndTransaction(p.cfg.Group, p.cfg.Topic, broker, h, f == commit, true))
	if err == nil {
		err = resp.Err()
		resp.Release()
	}
	if err != nil {
		p.rt.Log.Debug("rocketmq: answer to a broker failed; it asks again", "broker", broker, "err", fmt.Errorf("end transaction: %w", err))
		return
	}
	p.rt.Count(name, 1)
}
