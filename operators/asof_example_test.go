package operators_test

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
)

// What the device had last said when the command was sent, if it was said in the minute before.
func ExampleAsOf() {
	cs := []command{{"a", 5, "open"}, {"a", 20, "close"}, {"a", 120, "open"}}
	as := []answer{{"a", 10, true}, {"a", 20, false}, {"a", 21, true}, {"a", 150, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		return operators.AsOf(commands, answers, "before", func(c command, a answer, found bool) string {
			if !found {
				return fmt.Sprintf("%s at %d: nothing known", c.Name, c.Second)
			}
			return fmt.Sprintf("%s at %d: %t since %d", c.Name, c.Second, a.OK, a.Second)
		}, joins.Within(time.Minute))
	})
	// Output:
	// open at 5: nothing known
	// close at 20: false since 20
	// open at 120: nothing known
}
