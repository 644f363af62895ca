package peers

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/millrace-stream/millrace/bench/workload"
)

// watermillA has a handler per operator, with a topic between each two. Publishing waits for the ack, and so for all handlers behind: that keeps
// the order, bounds what is in flight, and costs no more than to go on without.
func watermillA(ctx context.Context, in *input, r *workload.Result) error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	channel := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 16, BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
	router.AddHandler("fahrenheit", "events", channel, "fahrenheit", channel, func(m *message.Message) ([]*message.Message, error) {
		e, err := decodeEvent(m.Payload)
		if err != nil {
			return nil, err
		}
		e.Temperature = e.Temperature*1.8 + 32
		return []*message.Message{message.NewMessage(m.UUID, encodeEvent(&e))}, nil
	})
	router.AddHandler("dry", "fahrenheit", channel, "dry", channel, func(m *message.Message) ([]*message.Message, error) {
		e, err := decodeEvent(m.Payload)
		if err != nil {
			return nil, err
		}
		if e.Humidity >= 50 {
			return nil, nil
		}
		return []*message.Message{m}, nil
	})
	router.AddHandler("mixed", "dry", channel, "mixed", channel, func(m *message.Message) ([]*message.Message, error) {
		e, err := decodeEvent(m.Payload)
		if err != nil {
			return nil, err
		}
		e.Humidity = e.Temperature*0.5 + e.Humidity*0.1
		return []*message.Message{message.NewMessage(m.UUID, encodeEvent(&e))}, nil
	})
	router.AddConsumerHandler("sum", "mixed", channel, func(m *message.Message) error {
		e, err := decodeEvent(m.Payload)
		if err != nil {
			return err
		}
		r.Out++
		r.Sum += e.Humidity
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	select {
	case <-router.Running():
	case err := <-ended:
		return err
	}
	for b := in.batch(ctx); len(b) > 0 && err == nil; b = in.batch(ctx) {
		for i := range b {
			if err = channel.Publish("events", message.NewMessage(strconv.FormatInt(b[i].Seq, 10), encodeEvent(&b[i]))); err != nil {
				break
			}
		}
	}
	return errors.Join(err, router.Close(), <-ended)
}

// encodeEvent writes an event in as few bytes and as little time as it takes.
func encodeEvent(e *event) []byte {
	b := make([]byte, 0, 32+len(e.Device))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.TS))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(e.Temperature))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(e.Humidity))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Seq))
	return append(b, e.Device...)
}

func decodeEvent(b []byte) (e event, err error) {
	if len(b) < 32 {
		return e, errors.New("the message is no event: it is too short")
	}
	e.TS = int64(binary.LittleEndian.Uint64(b))
	e.Temperature = math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))
	e.Humidity = math.Float64frombits(binary.LittleEndian.Uint64(b[16:]))
	e.Seq = int64(binary.LittleEndian.Uint64(b[24:]))
	e.Device = string(b[32:])
	return e, nil
}
