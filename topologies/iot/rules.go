package iot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/millrace-stream/millrace/operators/rule"
)

// RulesReport is what CheckRules found.
type RulesReport struct {
	*rule.Verdict[string, Placed]
	// Messages is how many messages the sample has. Heartbeats, Invalid and Repeats are those of them that rules do not see.
	Messages, Heartbeats, Invalid, Repeats int
}

// CheckRules says what is wrong with a file of rules, all of it. With a sample of recorded messages, one reading as JSON per line, it tries
// the rules on them and says which alarms would have come: of what the topology would let them see, and as far as the sample's own times
// go, with a watermark that lags as the configuration says. The error is rule.Problems for the rules, or names the line of the sample.
func CheckRules(path string, sample io.Reader, cfg TimeConfig) (*RulesReport, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("file of rules: %w", err)
	}
	report := &RulesReport{}
	trial := rule.Trial[string, Placed]{Name: path, Rules: text, Key: Placed.Device, Time: Placed.At, Delay: cfg.OutOfOrderness}
	if _, err := rule.Load[Placed](path, text); err != nil { // before the sample
		return nil, err
	}
	if sample != nil {
		placed, err := report.clean(sample)
		if err != nil {
			return nil, err
		}
		trial.Samples = placed
	}
	report.Verdict, err = rule.Check(trial)
	return report, err
}

// maxSampleLine is the longest line of a sample, in bytes.
const maxSampleLine = 1 << 20

// clean makes of a sample what the topology makes of its messages before the rules.
func (r *RulesReport) clean(sample io.Reader) (io.Reader, error) {
	var out bytes.Buffer
	to, code, sites, seen := json.NewEncoder(&out), ReadingCodec(), Sites(), map[EventID]bool{}
	lines := bufio.NewScanner(sample)
	lines.Buffer(nil, maxSampleLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		r.Messages++
		var v Reading
		if err := code.Decode(line, &v); err != nil {
			return nil, fmt.Errorf("sample, line %d: %w: write one reading as JSON per line", n, err)
		}
		switch id := v.EventID(); {
		case v.Heartbeat():
			r.Heartbeats++
			continue
		case !v.Valid():
			r.Invalid++
			continue
		case seen[id]:
			r.Repeats++
			continue
		default:
			seen[id] = true
		}
		site, found := sites[v.Site]
		p, err := place(v, site, found)
		if err != nil {
			return nil, err
		}
		if err := to.Encode(p); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("sample, line %d: %w", n+1, err)
	}
	return &out, nil
}

// String is the report in words: a line for each alarm, and what else there is to say.
func (r *RulesReport) String() string {
	s := r.Verdict.String()
	if r.Heartbeats+r.Invalid+r.Repeats > 0 {
		s += fmt.Sprintf("%d messages, of which rules do not see %d heartbeats, %d invalid readings and %d repeats\n", r.Messages, r.Heartbeats, r.Invalid, r.Repeats)
	}
	return s
}
