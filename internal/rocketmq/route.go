package rocketmq

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace-stream/millrace/flow"
)

// Queue is one queue of a topic: the unit of order.
type Queue struct {
	Broker string
	ID     int
}

// String is "broker/id".
func (q Queue) String() string { return q.Broker + "/" + strconv.Itoa(q.ID) }

// Route says where a topic's queues are.
type Route struct {
	// Readable and Writable are sorted by broker name and queue number, so that every client sees one order.
	Readable, Writable []Queue
	// Masters holds the address of each broker's master. A broker whose master is down is missing.
	Masters map[string]string
}

const (
	permRead  = 4
	permWrite = 2
	master    = "0"
)

type brokerData struct {
	BrokerName  string            `json:"brokerName"`
	BrokerAddrs map[string]string `json:"brokerAddrs"`
}

type routeData struct {
	BrokerDatas []brokerData `json:"brokerDatas"`
	QueueDatas  []struct {
		BrokerName string `json:"brokerName"`
		Read       int    `json:"readQueueNums"`
		Write      int    `json:"writeQueueNums"`
		Perm       int    `json:"perm"`
	} `json:"queueDatas"`
}

// Route asks the name servers, the one that answered last first. No name server answering is a transient error. A topic that
// the name server does not know is a permanent one (IsCode TopicNotExist), unless no broker has registered yet.
func (c *Client) Route(ctx context.Context, topic string) (Route, error) {
	resp, err := c.ask(ctx, Request{Code: 105, Ext: map[string]string{"topic": topic, "acceptStandardJsonOnly": "true"}})
	if err != nil {
		return Route{}, err
	}
	defer resp.Release()
	if err := resp.Err(); err != nil {
		if !IsCode(err, TopicNotExist) {
			return Route{}, err
		}
		err = fmt.Errorf("rocketmq: topic %q: %w", topic, err)
		if brokers, e := c.Brokers(ctx); e != nil || len(brokers) == 0 {
			return Route{}, flow.Transient(fmt.Errorf("%w; no broker has registered yet", err))
		}
		return Route{}, err
	}
	var data routeData
	if err := json.Unmarshal(quoteKeys(resp.Body), &data); err != nil {
		return Route{}, flow.Transient(fmt.Errorf("rocketmq: route of topic %q from %s: %w", topic, resp.Addr, err))
	}
	r := Route{Masters: map[string]string{}}
	for _, b := range data.BrokerDatas {
		if addr := b.BrokerAddrs[master]; addr != "" {
			r.Masters[b.BrokerName] = addr
		}
	}
	for _, q := range data.QueueDatas {
		if q.Perm&permRead != 0 {
			r.Readable = appendQueues(r.Readable, q.BrokerName, q.Read)
		}
		if q.Perm&permWrite != 0 {
			r.Writable = appendQueues(r.Writable, q.BrokerName, q.Write)
		}
	}
	slices.SortFunc(r.Readable, compareQueues)
	slices.SortFunc(r.Writable, compareQueues)
	return r, nil
}

func appendQueues(to []Queue, broker string, n int) []Queue {
	for i := range n {
		to = append(to, Queue{Broker: broker, ID: i})
	}
	return to
}

func compareQueues(a, b Queue) int {
	return cmp.Or(cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.ID, b.ID))
}

// Brokers returns the address of every master that is registered, by broker name.
func (c *Client) Brokers(ctx context.Context) (map[string]string, error) {
	resp, err := c.ask(ctx, Request{Code: 106})
	if err != nil {
		return nil, err
	}
	defer resp.Release()
	if err := resp.Err(); err != nil {
		return nil, err
	}
	var data struct {
		BrokerAddrTable map[string]brokerData `json:"brokerAddrTable"`
	}
	if err := json.Unmarshal(quoteKeys(resp.Body), &data); err != nil {
		return nil, flow.Transient(fmt.Errorf("rocketmq: cluster from %s: %w", resp.Addr, err))
	}
	brokers := map[string]string{}
	for name, b := range data.BrokerAddrTable {
		if addr := b.BrokerAddrs[master]; addr != "" {
			brokers[name] = addr
		}
	}
	return brokers, nil
}

// ask sends a request to one name server after the other until one answers.
func (c *Client) ask(ctx context.Context, req Request) (*Response, error) {
	servers := c.opts.NameServers
	c.mu.Lock()
	first := c.server
	c.mu.Unlock()
	var errs []error
	for i := range servers {
		n := (first + i) % len(servers)
		resp, err := c.Call(ctx, servers[n], req)
		if err == nil {
			c.mu.Lock()
			c.server = n
			c.mu.Unlock()
			return resp, nil
		}
		if errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, flow.Transient(fmt.Errorf("rocketmq: no name server answers: %w", errors.Join(errs...)))
}

// quoteKeys makes valid JSON of what older servers send: object keys that are bare numbers.
func quoteKeys(b []byte) []byte {
	out := make([]byte, 0, len(b)+16)
	inString := false
	for i := 0; i < len(b); i++ {
		ch := b[i]
		out = append(out, ch)
		switch {
		case inString && ch == '\\' && i+1 < len(b):
			i++
			out = append(out, b[i])
		case ch == '"':
			inString = !inString
		case !inString && (ch == '{' || ch == ','):
			end := i + 1
			for end < len(b) && b[end] >= '0' && b[end] <= '9' {
				end++
			}
			if end > i+1 && end < len(b) && b[end] == ':' {
				out = append(append(append(out, '"'), b[i+1:end]...), '"')
				i = end - 1
			}
		}
	}
	return out
}
