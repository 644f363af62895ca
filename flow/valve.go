package flow

// valve merges the watermarks of several inputs: the least over the active, aligned ones, which only ever rises. An idle input
// leaves at once; one that comes back below the output does not count until it reaches it. The semantics are those of Apache
// Flink's StatusWatermarkValve, case by case in testdata/watermarks.jsonl.
type valve struct {
	in   []valveInput
	out  Timestamp
	idle bool
	// some is set once out is a real watermark.
	some bool
}

type valveInput struct {
	wm      Timestamp
	idle    bool
	aligned bool
	gone    bool
}

// add registers an input: active and aligned, holding the output back until it speaks.
func (v *valve) add() int {
	if v.in == nil && !v.some {
		v.out = None
	}
	v.in = append(v.in, valveInput{wm: None, aligned: true})
	return len(v.in) - 1
}

// take handles a mark of input i and passes what follows from it to emit.
func (v *valve) take(i int, m mark, emit func(mark)) {
	in := &v.in[i]
	switch m.kind {
	case markWatermark:
		if in.idle || v.idle || m.wm <= in.wm {
			return
		}
		in.wm = m.wm
		if !in.aligned && in.wm >= v.out {
			in.aligned = true
		}
		v.advance(emit)
	case markIdle:
		if in.idle {
			return
		}
		in.idle, in.aligned = true, false
		if v.anyActive() {
			if in.wm == v.out || !v.some {
				v.advance(emit)
			}
			return
		}
		// The last one left: what is not held back by anybody any more may come out.
		if in.wm == v.out {
			top := None
			for j := range v.in {
				if !v.in[j].gone {
					top = max(top, v.in[j].wm)
				}
			}
			v.raise(top, emit)
		}
		v.idle = true
		emit(mark{kind: markIdle})
	case markActive:
		if !in.idle {
			return
		}
		in.idle = false
		in.aligned = in.wm >= v.out
		if v.idle {
			v.idle = false
			emit(mark{kind: markActive})
		}
	}
}

// remove forgets an input whose partition is gone.
func (v *valve) remove(i int, emit func(mark)) {
	in := &v.in[i]
	if in.gone {
		return
	}
	if !in.idle && v.activeCount() > 1 {
		in.idle, in.aligned, in.gone = true, false, true
		v.advance(emit)
		return
	}
	in.idle, in.aligned, in.gone = true, false, true
}

func (v *valve) activeCount() (n int) {
	for i := range v.in {
		if !v.in[i].idle {
			n++
		}
	}
	return n
}

func (v *valve) anyActive() bool { return v.activeCount() > 0 }

func (v *valve) advance(emit func(mark)) {
	least, any := EndOfTime, false
	for i := range v.in {
		if in := &v.in[i]; in.aligned && !in.idle {
			least, any = min(least, in.wm), true
		}
	}
	if any {
		v.raise(least, emit)
	}
}

func (v *valve) raise(wm Timestamp, emit func(mark)) {
	if wm == None || (v.some && wm <= v.out) {
		return
	}
	v.out, v.some = wm, true
	emit(mark{kind: markWatermark, wm: wm})
}
