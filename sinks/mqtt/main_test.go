package mqtt

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine of a sink outlives its Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
