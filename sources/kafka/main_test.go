package kafka

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine of a source outlives its Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
