package kafka

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine of a source outlives its Close. The fake brokers let a reader of theirs outlive their Close for a moment.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/twmb/franz-go/pkg/kfake.(*clientConn).read.func1"))
}
