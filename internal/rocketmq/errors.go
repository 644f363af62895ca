package rocketmq

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow"
)

// Codes of answers.
const (
	Success             = 0
	SystemError         = 1
	SystemBusy          = 2
	FlushDiskTimeout    = 10
	SlaveNotAvailable   = 11
	FlushSlaveTimeout   = 12
	MessageIllegal      = 13
	ServiceNotAvailable = 14
	VersionNotSupported = 15
	NoPermission        = 16
	TopicNotExist       = 17
	PullNotFound        = 19
	PullRetryAtOnce     = 20
	PullOffsetMoved     = 21
	QueryNotFound       = 22
	SubscriptionWrong   = 23
	GroupNotExist       = 26
)

// ServerError is an answer that is not a success.
type ServerError struct {
	Addr   string
	Code   int
	Remark string
}

// Error names server, code and what the server said.
func (e *ServerError) Error() string {
	return fmt.Sprintf("rocketmq: %s: code %d: %s", e.Addr, e.Code, strings.TrimSpace(e.Remark))
}

// IsCode tells whether err is an answer with that code.
func IsCode(err error, code int) bool {
	var e *ServerError
	return errors.As(err, &e) && e.Code == code
}

// IsRefused tells whether err says for certain that the broker did not take the messages and never will: too large, or wrong.
func IsRefused(err error) bool {
	var e *ServerError
	return errors.As(err, &e) && (e.Code == MessageIllegal || e.Code == SystemError && isTooLarge(e.Remark))
}

// isTooLate finds the refusal of a message that is delayed for too long.
func isTooLate(err error) bool {
	var e *ServerError
	return errors.As(err, &e) && e.Code == MessageIllegal && strings.Contains(e.Remark, "timer message illegal")
}

// isTooLarge finds the refusal of a batch above maxMessageSize among system errors, where brokers put it.
func isTooLarge(remark string) bool { return strings.Contains(remark, "message body size exceeded") }

// Err is nil for a success, else the answer as an error that is marked transient where asking again may help and that says
// the cure where it does not.
func (r *Response) Err() error {
	if r.Code == Success {
		return nil
	}
	err := error(&ServerError{Addr: r.Addr, Code: r.Code, Remark: r.Remark})
	switch {
	case r.Code == NoPermission:
		return fmt.Errorf("%w: check access_key and secret_key, and what they may do (access control, the topic's perm, the group's consumeEnable)", err)
	case r.Code == SystemError && isDenied(r.Remark):
		return fmt.Errorf("%w: check access_key and secret_key, and what they may do", err)
	case r.Code == GroupNotExist:
		return fmt.Errorf("%w: create the group (mqadmin updateSubGroup), or set autoCreateSubscriptionGroup=true on the broker", err)
	case r.Code == TopicNotExist:
		return fmt.Errorf("%w: create the topic (mqadmin updateTopic -t TOPIC -r 8 -w 8 -c CLUSTER)", err)
	case isTooLate(err):
		return fmt.Errorf("%w: deliver within the broker's timerMaxDelaySec, 3 days by default", err)
	case IsRefused(err):
		return fmt.Errorf("%w: keep messages below the broker's maxMessageSize and properties below 32,767 bytes", err)
	case r.Code == SystemError && strings.Contains(r.Remark, "timer message is not enabled"):
		return fmt.Errorf("%w: set timerWheelEnable=true on the broker, or use delay levels", err)
	case r.Code == SubscriptionWrong:
		return fmt.Errorf("%w: correct the subscription's expression", err)
	case r.Code == SystemError && strings.Contains(r.Remark, "does not support consumer to filter message"):
		return fmt.Errorf("%w: set enablePropertyFilter=true on the broker", err)
	case r.Code == VersionNotSupported:
		return err
	}
	return flow.Transient(err) // busy, not durable yet, shutting down, and what is not known: the broker may recover
}

// isDenied finds refusals of access control among system errors, where brokers before 5.2 put them.
func isDenied(remark string) bool {
	for _, s := range []string{"AclException", "AuthenticationException", "AuthorizationException"} {
		if strings.Contains(remark, s) {
			return true
		}
	}
	return false
}
