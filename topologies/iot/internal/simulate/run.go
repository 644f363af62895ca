package simulate

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

// Options of a run.
type Options struct {
	Load   Load
	Broker Broker
	// TopicPrefix comes before /<site>/<device>.
	TopicPrefix string
	// Readings is how many messages are published, heartbeats not counted. 0 means until ctx ends.
	Readings int64
	// Rate is how many readings are published per second, 0 as fast as the broker takes them.
	Rate float64
	// Duration ends the run earlier. 0 means no end.
	Duration time.Duration
	// Settle is the pause before the first message that may be late, in which the consumers learn what time it is.
	Settle time.Duration
	// Ledger is the file that the books are written to.
	Ledger string
	// StopTimeout bounds the wait for confirmations at the end.
	StopTimeout time.Duration
	Log         *slog.Logger
	// Progress, if not nil, is kept up to date.
	Progress *Progress
}

// Progress of a run, safe to read while it goes on.
type Progress struct {
	Published, Acked, Retries atomic.Int64
	// WarmedUp is set once late readings may be sent.
	WarmedUp atomic.Bool
}

// flushEvery is how often closed minutes leave the memory.
const flushEvery = 30 * time.Second

// Run publishes the load and returns the totals once everything is confirmed and the ledger is written. The end of ctx is a clean
// stop: what was published is confirmed and booked.
func Run(ctx context.Context, o Options) (ledger.Totals, error) {
	books, err := ledger.Create(o.Ledger, o.Load.Seed)
	if err != nil {
		return ledger.Totals{}, err
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	pub, err := dial(ctx, o.Broker, o.Log)
	if err != nil {
		return ledger.Totals{}, errors.Join(err, books.Close(0))
	}
	r := &run{Options: o, books: books, pub: pub, recent: make([]sent, max(2, o.Load.Recent))}
	r.publishAll(ctx)
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.StopTimeout)
	defer cancel()
	pub.finish(wait)
	r.report()
	totals := books.Totals()
	totals.Unacked = totals.Published - pub.acked.Load()
	return totals, books.Close(totals.Unacked)
}

type run struct {
	Options
	books  *ledger.Writer
	pub    *publisher
	recent []sent
}

// sent remembers a message that may be repeated.
type sent struct {
	device  int
	payload []byte
}

func (r *run) publishAll(ctx context.Context) {
	begin := time.Now()
	flushed := begin
	pace := pacer{rate: r.Rate, start: begin}
	for i := int64(0); r.Readings == 0 || i < r.Readings; i++ {
		if i == r.Load.LateFrom {
			r.settle(ctx)
			r.Progress.WarmedUp.Store(true)
			pace = pacer{rate: r.Rate, start: time.Now(), from: i}
		}
		if i%64 == 0 {
			now := time.Now()
			if r.Duration > 0 && now.Sub(begin) >= r.Duration {
				return
			}
			if now.Sub(flushed) >= flushEvery {
				r.books.Flush(now.Add(-2 * time.Minute))
				flushed = now
			}
			r.report()
		}
		if pace.wait(ctx, i) != nil || r.one(ctx, i) != nil {
			return
		}
	}
}

func (r *run) report() {
	r.Progress.Published.Store(r.books.Totals().Published)
	r.Progress.Acked.Store(r.pub.acked.Load())
	r.Progress.Retries.Store(r.pub.retries.Load())
}

func (r *run) settle(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(r.Settle):
	}
}

// one publishes message i, and a heartbeat before it where one is due. Nothing is booked that was not handed to the publisher.
func (r *run) one(ctx context.Context, i int64) error {
	m := r.Load.message(i)
	if r.Load.heartbeat(i) {
		err := r.publish(ctx, m.device, appendReading(nil, &m, iot.KindHeartbeat, time.Now().UnixMilli()))
		if err != nil {
			return err
		}
		r.books.Heartbeat()
	}
	slot := &r.recent[i%int64(len(r.recent))]
	*slot = sent{}
	if m.kind == duplicate {
		if old := r.earlier(i, &m); old != nil {
			if err := r.publish(ctx, old.device, old.payload); err != nil {
				return err
			}
			r.books.Duplicate()
			return nil
		}
		m.kind = plain
	}
	now := time.Now()
	clock := r.Load.clock(m.device)
	at := now.UnixMilli() - m.behind + clock.Milliseconds()
	var payload []byte
	if m.kind == malformed {
		payload = appendMalformed(nil, &m, at)
	} else {
		payload = appendReading(make([]byte, 0, 176), &m, iot.KindReading, at)
	}
	if err := r.publish(ctx, m.device, payload); err != nil {
		return err
	}
	switch device := DeviceName(m.device); {
	case m.kind == malformed:
		r.books.Malformed(payload)
	case clock == year:
		r.books.BadClock(device, i)
	case m.kind == invalid:
		r.books.Invalid(device, i)
	case m.kind == late:
		r.books.Late(device, i)
	default:
		r.books.Count(device, iot.SiteName(m.device), at, m.temperature, now)
		*slot = sent{m.device, payload}
	}
	return nil
}

// earlier finds the message that message i repeats: one of the last that counted.
func (r *run) earlier(i int64, m *message) *sent {
	n := int64(len(r.recent))
	back := 1 + int64(m.shape%uint64(max(1, min(i, n-1))))
	for k := int64(0); k < n-1; k++ {
		j := i - 1 - (back-1+k)%(n-1)
		if j < 0 {
			continue
		}
		if s := &r.recent[j%n]; s.payload != nil {
			return s
		}
	}
	return nil
}

func (r *run) publish(ctx context.Context, device int, payload []byte) error {
	topic := r.TopicPrefix + "/" + iot.SiteName(device) + "/" + DeviceName(device)
	return r.pub.publish(ctx, device, topic, payload)
}

// pacer holds a load to its rate. A backlog of more than a second, after the broker was away, is not caught up.
type pacer struct {
	rate  float64
	start time.Time
	from  int64
}

func (p *pacer) wait(ctx context.Context, i int64) error {
	if p.rate == 0 {
		return ctx.Err()
	}
	due := p.start.Add(time.Duration(float64(i-p.from) / p.rate * float64(time.Second)))
	d := time.Until(due)
	switch {
	case d < -time.Second:
		p.start, p.from = time.Now(), i
	case d > 2*time.Millisecond:
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
