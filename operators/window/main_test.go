package window_test

import (
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

// Thousands of topologies begin here, each of which is soon garbage: the collector would be a third of the work.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	goleak.VerifyTestMain(m)
}
