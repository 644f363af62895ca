package cep_test

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/operators/cep"
)

// Reading is what devices send.
type Reading struct {
	Device string
	Temp   float64
}

func hotter(than float64) cep.StepOption[Reading] {
	return cep.Where(func(r Reading) bool { return r.Temp > than })
}

func ExamplePattern_Explain() {
	p := cep.Begin("warm", hotter(80)).Next("hot", hotter(90)).Absent("cooled", 30*time.Second, cep.Where(func(r Reading) bool { return r.Temp < 60 }))
	picture, err := p.Explain()
	if err != nil {
		panic(err)
	}
	fmt.Print(picture)
	// Output:
	// stateDiagram-v2
	//     s4: wait for warm
	//     s3: wait for hot
	//     s1: cooled absent for 30s
	//     [*] --> s4
	//     s4 --> s3: take warm
	//     s3 --> s1: take hot
	//     s1 --> stopped: an event that must not come
	//     s1 --> s1: skip
	//     s1 --> [*]: time
}

// All that is wrong with a pattern is listed, each with the cure.
func ExamplePattern_Problems() {
	p := cep.Begin("hot", hotter(90), cep.Greedy()).Next("hot", hotter(95)).NotFollowedBy("cooled")
	for _, problem := range p.Problems() {
		fmt.Println(problem)
	}
	// Output:
	// step "hot" is there 2 times: give each step a name of its own
	// step "hot": Greedy on a step that comes once: add a quantifier like cep.OneOrMore or cep.Range
	// step "cooled": a pattern that ends with NotFollowedBy would wait for ever: add Within, or use Absent
}
