package operators_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sources/gen"
)

// printed is a sink that prints what it is given.
func printed() flow.Sink[string] {
	return flow.SinkFunc(func(_ context.Context, batch []flow.Record[string]) error {
		for _, r := range batch {
			fmt.Println(r.Value)
		}
		return nil
	})
}

func withSite(device, site string, found bool) (string, error) {
	if !found {
		site = "nowhere"
	}
	return device + " in " + site, nil
}

func ExampleEnrich() {
	sites := operators.Table[string, string]{"d1": "the hall", "d2": "the yard"}
	t := flow.New("places", flow.WithStore(state.InMemory()))
	devices := flow.From(t, "devices", gen.Slice("d1", "d2", "d3"))
	flow.To(operators.Enrich(devices, "site", sites, func(device string) string { return device }, withSite), "out", printed())
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// d1 in the hall
	// d2 in the yard
	// d3 in nowhere
}

// A lookup that is down: known keys would be served from the cache, others get the fallback.
func ExampleFallbackValue() {
	registry := operators.LookupFunc[string, string](func(context.Context, string) (string, bool, error) {
		return "", false, flow.Transient(errors.New("the registry is down"))
	})
	t := flow.New("places", flow.WithStore(state.InMemory()))
	devices := flow.From(t, "devices", gen.Slice("d1", "d2"))
	flow.To(operators.Enrich(devices, "site", registry, func(device string) string { return device }, withSite,
		operators.Cache(time.Minute, 1000), operators.StaleFor(time.Hour),
		operators.CircuitBreaker(1, 10*time.Second), operators.Attempts(1), operators.FallbackValue("an unknown place")), "out", printed())
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// d1 in an unknown place
	// d2 in an unknown place
}
