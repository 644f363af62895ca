// Package harness measures topologies: how many records a second, what each costs, how long it takes from its creation to the sink, and whether
// any is lost. A scenario is a small interface; the command flowbench runs those of this project, and Main runs yours.
package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Scenario is something that can be measured: a source that takes its records from the load, a topology, and a sink that tells the meter.
type Scenario interface {
	// Name is kebab-case, with a slash between the family and the rest: "micro/tumbling-10k".
	Name() string
	// About says in one line what is measured.
	About() string
	// Run runs it once. It returns when the load has ended and all that came of it is out, or with the error that it met.
	Run(ctx context.Context, l *Load, m *Meter) error
}

// Func makes a scenario of a function.
func Func(name, about string, run func(ctx context.Context, l *Load, m *Meter) error) Scenario {
	return scenario{name, about, run}
}

type scenario struct {
	name, about string
	run         func(context.Context, *Load, *Meter) error
}

func (s scenario) Name() string                                     { return s.name }
func (s scenario) About() string                                    { return s.about }
func (s scenario) Run(ctx context.Context, l *Load, m *Meter) error { return s.run(ctx, l, m) }

// Find are the scenarios whose name is given, or begins with it and a slash; "all" are all.
func Find(all []Scenario, name string) ([]Scenario, error) {
	var found []Scenario
	var names []string
	for _, s := range all {
		if name == "all" || s.Name() == name || strings.HasPrefix(s.Name(), name+"/") {
			found = append(found, s)
		}
		names = append(names, s.Name())
	}
	if len(found) == 0 {
		slices.Sort(names)
		return nil, fmt.Errorf("there is no scenario %q; there are: %s", name, strings.Join(names, ", "))
	}
	return found, nil
}
