// Command bench measures a topology of one's own.
package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// [scenario]

type order struct {
	ID    int64
	Shop  string
	Price float64
	At    time.Time
}

// totals is the topology under test: the sum of orders per shop, told after each order.
func totals(orders flow.Stream[order]) flow.Stream[order] {
	timed := flow.AssignTime(orders, "time", func(o order) time.Time { return o.At }, watermark.Monotonous().Simulated())
	byShop := flow.KeyBy(timed, func(o order) string { return o.Shop })
	return operators.Scan(byShop, "totals", func(sum, o order) order {
		o.Price += sum.Price
		return o
	})
}

// orders measures it: 1,000 shops, an order every millisecond of event time.
func orders(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	m.EachOnce() // each order gives one total: what is missing or comes twice is counted
	shops := make([]string, 1000)
	for i := range shops {
		shops[i] = "shop-" + strconv.Itoa(i)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fill := func(i int64, o *order) {
		*o = order{ID: i, Shop: shops[i*7919%1000], Price: float64(i % 100), At: begin.Add(time.Duration(i) * time.Millisecond)}
	}
	t := flow.New("orders", flow.WithStore(state.InMemory()), flow.WithHooks(m))
	flow.To(totals(flow.From(t, "orders", harness.From(l, fill))), "out", harness.To(m, func(o order) int64 { return o.ID }))
	return t.Run(ctx)
}

// [main]

func main() {
	scenario := harness.Func("shop/totals", "sum per shop, 1,000 shops", orders)
	os.Exit(harness.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr, scenario))
}
