package broadcast

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestAlarms(t *testing.T) {
	readings, rules := flowtest.NewSource[Reading](), flowtest.NewSource[Rule]()
	out, third := flowtest.NewSink[Alarm](), flowtest.NewSink[counted]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("alarms", opts...)
		a := alarms(flow.KeyBy(flow.From(top, "readings", readings), func(r Reading) string { return r.Device }), flow.From(top, "rules", rules))
		flow.To(a, "out", out)
		flow.To(thirdTime(a), "third-out", third)
		return top
	}, readings, rules)
	rules.Feed(Rule{ID: "hot", Kind: "boiler", Above: 80}, Rule{ID: "warm", Kind: "boiler", Above: 60})
	r.Epoch()
	readings.Feed(Reading{Device: "a", Kind: "boiler", Celsius: 90}, Reading{Device: "a", Kind: "fridge", Celsius: 90})
	r.Epoch()
	require.Equal(t, []Alarm{{"a", "hot", 90}, {"a", "warm", 90}}, out.Next())
	rules.Feed(Rule{ID: "warm", Off: true})
	r.Epoch()
	readings.Feed(Reading{Device: "a", Kind: "boiler", Celsius: 90}, Reading{Device: "a", Kind: "boiler", Celsius: 91})
	r.Epoch()
	require.Equal(t, []Alarm{{"a", "hot", 90}, {"a", "hot", 91}}, out.Next())
	require.Equal(t, []counted{{Alarm{"a", "hot", 91}, 3}}, third.Values())
	r.Stop()
}
