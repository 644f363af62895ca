// Package chains is the code of docs/topologies/cep.md.
package chains

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

// Reading is what a machine of the plant sends.
type Reading struct {
	Machine string
	At      time.Time
	Celsius float64
	Step    string
}

func (r Reading) celsius() float64 { return r.Celsius }
func (r Reading) step() string     { return r.Step }

// [overheat]
func overheating(byMachine flow.KeyedStream[string, Reading], alarms flow.Sink[chains.Overheating], almost flow.Sink[chains.AlmostOverheating]) {
	found := chains.Overheat(byMachine, "overheat", Reading.celsius, chains.OverheatConfig{Warm: 70, Hot: 80, Cooled: 50, Within: time.Minute})
	flow.To(found, "alarms", alarms)
	flow.To(found.Almost(), "almost", almost)
}

// [offline]
func offline(byMachine flow.KeyedStream[string, Reading], outages flow.Sink[chains.Outage]) {
	flow.To(chains.Offline(byMachine, "offline", chains.OfflineConfig{Silent: 2 * time.Minute}), "outages", outages)
}

// [line]
func line(byItem flow.KeyedStream[string, Reading], finished flow.Sink[chains.Finished], skipped, unfinished flow.Sink[chains.Faulty]) {
	items := chains.Line(byItem, "line", Reading.step, chains.LineConfig{First: "mix", Second: "heat", Third: "fill", Within: time.Hour})
	flow.To(items, "finished", finished)
	flow.To(items.Skipped(), "skipped", skipped)
	flow.To(items.Unfinished(), "unfinished", unfinished)
}

// [end]
