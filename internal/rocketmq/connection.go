package rocketmq

import (
	"errors"
	"fmt"
	"time"
)

// Connection says how to reach a cluster and how to be accepted by it: the part that the configurations of source and sink share.
type Connection struct {
	// NameServers are host:port of the cluster's name servers; one that answers is enough. Required.
	NameServers []string `yaml:"name_servers"`
	// Timeout bounds connecting and each request but pulls. Defaults to 5 s.
	Timeout time.Duration `yaml:"timeout"`
	// AccessKey is the user of a cluster with access control; every request is signed. Defaults to none: no signatures.
	AccessKey string `yaml:"access_key"`
	// SecretKey is the user's password. Defaults to none.
	SecretKey Secret `yaml:"secret_key"`
	// SecurityToken comes with temporary keys. Defaults to none.
	SecurityToken Secret `yaml:"security_token"`
	// TLS encrypts all connections. Defaults to none.
	TLS TLS `yaml:"tls"`
}

// NewClient makes a client; it does not connect. The error lists all that is wrong.
func NewClient(c Connection) (*Client, error) {
	t, err := c.TLS.Config()
	if c.Timeout < 0 {
		err = errors.Join(err, fmt.Errorf("rocketmq: timeout is %s: want a positive duration", c.Timeout))
	}
	client, e := New(Options{
		NameServers: c.NameServers,
		Timeout:     c.Timeout,
		TLS:         t,
		Credentials: Credentials{AccessKey: c.AccessKey, SecretKey: c.SecretKey, SecurityToken: c.SecurityToken},
	})
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	return client, nil
}
