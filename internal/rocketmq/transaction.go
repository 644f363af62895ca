package rocketmq

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Half is a message that is stored, but not yet to be seen.
type Half struct {
	// QueueOffset is its place among the broker's half messages, LogOffset that in its log.
	QueueOffset, LogOffset int64
	// ID is what the broker calls the transaction, if it does.
	ID string
}

// Half reads the answer to a Send with half.
func (r *Response) Half() (h Half, err error) {
	if h.QueueOffset, err = r.Int("queueOffset"); err != nil {
		return h, err
	}
	h.ID = r.Ext["transactionId"]
	// The message's id is the broker's address, of 16 or 40 digits, and the place in its log.
	id := r.Ext["msgId"]
	if len(id) < 32 {
		return h, fmt.Errorf("rocketmq: %s: message id %q is too short", r.Addr, id)
	}
	at, err := strconv.ParseUint(id[len(id)-16:], 16, 63)
	if err != nil {
		return h, fmt.Errorf("rocketmq: %s: message id: %w", r.Addr, err)
	}
	h.LogOffset = int64(at)
	return h, nil
}

// CheckBack is the command by which a broker asks what became of a half message; the message is in its body.
const CheckBack = 39

// CheckedHalf reads the place of the half message that a CheckBack asks for.
func (r *Response) CheckedHalf() (h Half, err error) {
	if h.QueueOffset, err = r.Int("tranStateTableOffset"); err != nil {
		return h, err
	}
	if h.LogOffset, err = r.Int("commitLogOffset"); err != nil {
		return h, err
	}
	h.ID = r.Ext["transactionId"]
	return h, nil
}

// EndTransaction is the command that lets readers see a half message, or drops it. Asked twice to commit, brokers store the message
// twice. asked says that it answers a CheckBack.
func EndTransaction(group, topic, broker string, h Half, commit, asked bool) Request {
	end := "12"
	if commit {
		end = "8"
	}
	return Request{Code: 37, Ext: map[string]string{
		"producerGroup": group, "topic": topic, "bname": broker, "tranStateTableOffset": strconv.FormatInt(h.QueueOffset, 10),
		"commitLogOffset": strconv.FormatInt(h.LogOffset, 10), "commitOrRollback": end, "fromTransactionCheck": strconv.FormatBool(asked),
		"msgId": h.ID, "transactionId": h.ID,
	}}
}

// Heartbeat is the command that makes a connection one of a producer group's, for two minutes: the broker may ask it then.
func Heartbeat(client, group string) (Request, error) {
	body, err := json.Marshal(map[string]any{
		"clientID": client, "producerDataSet": []map[string]string{{"groupName": group}}, "consumerDataSet": []string{},
	})
	if err != nil {
		return Request{}, fmt.Errorf("rocketmq: encode heartbeat: %w", err)
	}
	return Request{Code: 34, Body: [][]byte{body}}, nil
}
