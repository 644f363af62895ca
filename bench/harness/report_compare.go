package harness

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// entry is what one program made of a subject: a reference job, or a query of Nexmark.
type entry struct {
	set, subject, program string
	r                     *Result
}

// Sets of subjects on which programs are compared.
const (
	setJobs    = "Reference jobs"
	setNexmark = "Nexmark"
)

// Names of this project and of the floor in comparisons.
const (
	ours    = "Millrace"
	byHand  = "loop by hand"
	variant = ", "
)

var (
	jobName = regexp.MustCompile(`^(A|B10k|B1m|C|D|En|Ef|F)(?:-(.+))?$`)
	query   = regexp.MustCompile(`^(?:nexmark-)?((?:q|cep)\d+)$`)
)

// compared tells what a result is of, by its name:
//
//	jobs/[VARIANT/]NAME, floor/NAME, peers/NAME/PROGRAM, PROGRAM/[VARIANT/]NAME; nexmark/QUERY, PROGRAM/[VARIANT/][nexmark/]QUERY
func compared(r *Result) (e entry, ok bool) {
	words := strings.Split(r.Scenario, "/")
	if len(words) < 2 || r.Settings.Rate != 0 || r.Sustained != nil {
		return e, false
	}
	e.r = r
	who, last := words[0], words[len(words)-1]
	if who == "peers" && len(words) == 3 {
		e.set, e.subject, e.program = setJobs, words[1], last
		const beside = variant + "peers"
		how, own := strings.CutPrefix(last, "millrace-")
		switch {
		case last == "floor":
			e.program = byHand + beside
		case last == "millrace":
			e.program = ours + beside
		case own:
			e.program = ours + variant + how + beside
		}
		return e, true
	}
	if m := query.FindStringSubmatch(last); m != nil && (who == "nexmark" || !ownFamily(who)) {
		e.set, e.subject, e.program = setNexmark, m[1], who
		between := slices.DeleteFunc(slices.Clone(words[1:len(words)-1]), func(w string) bool { return w == "nexmark" })
		if who == "nexmark" {
			e.program = ours
		}
		e.program = strings.Join(append([]string{e.program}, between...), " ")
		return e, true
	}
	m := jobName.FindStringSubmatch(last)
	if m == nil || who == "micro" {
		return e, false
	}
	e.set, e.subject, e.program = setJobs, m[1], who
	switch who {
	case "jobs":
		e.program = ours
	case "floor":
		e.program = byHand
	}
	for _, w := range append(slices.Clone(words[1:len(words)-1]), m[2]) {
		if w != "" {
			e.program += variant + w
		}
	}
	return e, true
}

func ownFamily(name string) bool {
	return slices.Contains([]string{"micro", "iot", "e2e", "durability"}, name)
}

// family is the heading of a result that is not compared, "" of one that is.
func family(r *Result) string {
	if _, ok := compared(r); ok {
		return ""
	}
	name, _, _ := strings.Cut(r.Scenario, "/")
	return name
}

func sameMachine(a, b *Result) bool {
	return a.Machine.CPU == b.Machine.CPU && a.Machine.Cores == b.Machine.Cores
}

// comparisons are the tables of the programs on each subject.
func (p *page) comparisons() error {
	for _, set := range []string{setJobs, setNexmark} {
		bySubject, subjects := p.entries(set)
		if len(subjects) == 0 {
			continue
		}
		p.line("## %s", set)
		p.line("")
		p.table(map[string]string{setJobs: "job", setNexmark: "query"}[set], "program", "runs", "events/s", "CPU us/event", "loop by hand = 1", "Millrace = 1", "allocs/event", "GC", "peak RSS")
		programs := map[string]*series{}
		var order []string
		for _, s := range subjects {
			es := bySubject[s]
			floor, own := reference(es, byHand), reference(es, ours)
			for i, e := range es {
				name := s
				if i > 0 {
					name = ""
				}
				p.row(name, e.program, fmt.Sprint(len(e.r.Runs)), spread(e.r, perSecond), spread(e.r, cpuTime), times(e.r, floor), times(e.r, own), middle(e.r, allocs), share(e.r), memory(e.r))
				if programs[e.program] == nil {
					programs[e.program] = &series{name: e.program, at: map[string]float64{}}
					order = append(order, e.program)
				}
				if v, ok := median(e.r, cpuTime); ok {
					programs[e.program].at[s] = v
				}
			}
		}
		p.line("")
		slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
		var all []series
		for _, o := range order {
			all = append(all, *programs[o])
		}
		name := strings.ReplaceAll(strings.ToLower(set), " ", "-")
		drawn, err := dots(filepath.Join(p.charts.Dir, name), set+": processor time per event", "us", subjects, all)
		if err := p.picture(name, set+": processor time per event", drawn, err); err != nil {
			return err
		}
	}
	return nil
}

// rank orders programs: the floor, this project, others.
func rank(program string) int {
	switch {
	case strings.HasPrefix(program, byHand):
		return 0
	case strings.HasPrefix(program, ours):
		return 1
	}
	return 2
}

// entries are those of a set by subject, the cheapest first.
func (p *page) entries(set string) (bySubject map[string][]entry, subjects []string) {
	bySubject = map[string][]entry{}
	for i := range p.rs {
		if e, ok := compared(&p.rs[i]); ok && e.set == set {
			if bySubject[e.subject] == nil {
				subjects = append(subjects, e.subject)
			}
			bySubject[e.subject] = append(bySubject[e.subject], e)
		}
	}
	slices.SortFunc(subjects, natural)
	for _, es := range bySubject {
		slices.SortStableFunc(es, func(a, b entry) int {
			x, _ := median(a.r, cpuTime)
			y, _ := median(b.r, cpuTime)
			return cmp.Compare(x, y)
		})
	}
	return bySubject, subjects
}

var digits = regexp.MustCompile(`\d+`)

// natural orders q2 before q11.
func natural(a, b string) int {
	pad := func(s string) string {
		return digits.ReplaceAllStringFunc(s, func(d string) string { return fmt.Sprintf("%06s", d) })
	}
	return cmp.Compare(pad(a), pad(b))
}

// reference is the entry that others are measured by: the plain one, or else the one beside the peers.
func reference(es []entry, program string) *Result {
	for _, name := range []string{program, program + variant + "peers"} {
		for _, e := range es {
			if e.program == name {
				return e.r
			}
		}
	}
	return nil
}

// times is how many times as much processor time it takes.
func times(r, of *Result) string {
	if of == nil || !sameMachine(r, of) {
		return ""
	}
	v, ok := median(r, cpuTime)
	base, has := median(of, cpuTime)
	if !ok || !has {
		return ""
	}
	return number(v / base)
}

// others says where another program is ahead.
func (p *page) others() error {
	var said []string
	all := 0
	for _, set := range []string{setJobs, setNexmark} {
		bySubject, subjects := p.entries(set)
		for _, s := range subjects {
			own := reference(bySubject[s], ours)
			for _, e := range bySubject[s] {
				if own == nil || rank(e.program) < 2 || !sameMachine(e.r, own) {
					continue
				}
				all++
				for _, q := range []struct {
					name string
					of   func(*Run) (float64, bool)
					more bool
				}{{"us of processor time per event", cpuTime, false}, {"events/s", perSecond, true}} {
					theirs, ok := median(e.r, q.of)
					mine, has := median(own, q.of)
					if ok && has && theirs != mine && (theirs > mine) == q.more {
						said = append(said, fmt.Sprintf("- %s: %s has %s %s, %s %s.", s, e.program, number(theirs), q.name, ours, number(mine)))
					}
				}
			}
		}
	}
	if all == 0 {
		return nil
	}
	p.line("## Where others are ahead")
	p.line("")
	if len(said) == 0 {
		p.line("In none of the %d comparisons above, by processor time or by events a second.", all)
	}
	for _, s := range said {
		p.line(s)
	}
	p.line("")
	return nil
}
