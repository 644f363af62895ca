package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// TestE2E: what arrives is what was published, exactly.
func TestE2E(t *testing.T) {
	readings := number(t, "E2E_READINGS", 100_000)
	rate := number(t, "E2E_RATE", min(5000, max(2000, readings/200)))
	c := newChain(t, fmt.Sprintf("SIMULATE_SEED=%d", number(t, "E2E_SEED", 1)))
	began := time.Now()
	ingest, data := c.box("ingest"), c.box("data")
	sim := c.simulate(readings, float64(rate))
	c.requireEnd(sim, time.Duration(readings/rate)*time.Second*3+time.Minute)
	published := time.Since(began)
	c.requireEnd(ingest, 3*time.Minute)
	c.requireEnd(data, 3*time.Minute)
	t.Logf("%d readings published in %v, in the tables after %v", readings, published.Round(time.Second), time.Since(began).Round(time.Second))
	c.requireExact()
}

// ledgerCauses counts dead letters by node and cause.
func ledgerCauses(ctx context.Context, ch *clickhouse.Conn) (map[string]uint64, error) {
	causes := map[string]uint64{}
	err := ch.Query(ctx, "SELECT topology || '/' || node || ': ' || substring(cause, 1, 40) AS c, count() FROM "+iot.TableDeadLetters+" GROUP BY c", func(r driver.Rows) error {
		var cause string
		var n uint64
		err := r.Scan(&cause, &n)
		causes[cause] = n
		return err
	})
	return causes, err
}
