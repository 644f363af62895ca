package rule

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/millrace-stream/millrace/flow"
)

// API takes rules over HTTP. It is a Source and an http.Handler for one path, for one operators.Rules:
//
//	GET   the rules that were taken last, as YAML
//	PUT   a whole set in YAML (or JSON); answers 204 once it is part of the checkpoint, so that no crash loses it
//	POST  checks a set without taking it; answers 204 where it is good
//
// A set that is bad is answered with 422 and a JSON array of what is wrong: line, column, rule, field, what, cure. 503 says that the topology does not
// run; a set that was sent may then have been taken or not: ask with GET, or send it again. Who may call it is for the program to decide:
// it knows no users.
//
// The rules to begin with are those of another source, which is asked where nothing is stored.
type API struct {
	begin Source

	mu    sync.Mutex
	check func(Change) error
	rules []Rule
	// puts take what is to be emitted, while the topology reads; nil else.
	puts chan *put
	ends chan struct{}
	sent []*put
}

// put is a set on its way.
type put struct {
	change Change
	upTo   int64
	done   chan struct{}
}

// maxBody bounds a request.
const maxBody = 64 << 20

// NewAPI returns an API that begins with the rules of another source: Fixed() for none.
func NewAPI(begin Source) *API { return &API{begin: begin} }

// Initial implements Source.
func (a *API) Initial(check func(Change) error) ([]Rule, error) { return a.begin.Initial(check) }

// Control implements Source.
func (a *API) Control(t *flow.Topology, name string, check func(Change) error) flow.Stream[Change] {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.check = check
	return flow.From(t, name+"/rules", flow.Source[Change](&apiStream{a}))
}

// InForce implements Observer.
func (a *API) InForce(rules []Rule) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rules = rules
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		a.get(w)
	case http.MethodPut, http.MethodPost:
		a.take(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT")
		http.Error(w, "GET the rules, PUT a whole set, or POST one to have it checked", http.StatusMethodNotAllowed)
	}
}

func (a *API) get(w http.ResponseWriter) {
	a.mu.Lock()
	rules := a.rules
	a.mu.Unlock()
	if rules == nil {
		rules = []Rule{}
	}
	b, err := yaml.Marshal(map[string][]Rule{"rules": rules})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(b)
}

func (a *API) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	a.mu.Lock()
	check, puts, ends := a.check, a.puts, a.ends
	a.mu.Unlock()
	if check == nil {
		unavailable(w)
		return
	}
	rules, err := readRules("", body, check)
	if err != nil {
		refuse(w, err)
		return
	}
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if puts == nil {
		unavailable(w)
		return
	}
	p := &put{change: Change{Whole: true, Put: rules}, done: make(chan struct{})}
	select {
	case puts <- p:
	case <-ends:
		unavailable(w)
		return
	case <-r.Context().Done():
		return
	}
	select {
	case <-p.done:
		w.WriteHeader(http.StatusNoContent)
	case <-ends:
		unavailable(w)
	case <-r.Context().Done():
	}
}

func unavailable(w http.ResponseWriter) {
	http.Error(w, "the topology does not run: send it again when it does", http.StatusServiceUnavailable)
}

func refuse(w http.ResponseWriter, err error) {
	type problem struct {
		Line   int    `json:"line,omitempty"`
		Column int    `json:"column,omitempty"`
		Rule   string `json:"rule,omitempty"`
		Field  string `json:"field,omitempty"`
		What   string `json:"what"`
		Cure   string `json:"cure,omitempty"`
	}
	var ps Problems
	if !errors.As(err, &ps) {
		ps = Problems{{What: err.Error()}}
	}
	list := make([]problem, len(ps))
	for i, p := range ps {
		list[i] = problem{p.Line, p.Column, p.Rule, p.Field, p.What, p.Cure}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(list)
}

// apiStream is the control stream of an API: one partition, with a number for each set.
type apiStream struct{ a *API }

// Open implements flow.Source.
func (s *apiStream) Open(context.Context, flow.SourceRuntime) error { return nil }

// Run implements flow.Source.
func (s *apiStream) Run(ctx context.Context, a flow.Assign) error {
	if err := a.Add(flow.Partition{ID: "http"}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Read implements flow.Source.
func (s *apiStream) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[Change]) error {
	a, n := s.a, from.Offset
	puts, ends := make(chan *put), make(chan struct{})
	a.mu.Lock()
	a.puts, a.ends, a.sent = puts, ends, nil
	a.mu.Unlock()
	stop := func() {
		a.mu.Lock()
		a.puts = nil
		a.mu.Unlock()
	}
	defer stop()
	in.Idle()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-puts:
			n++
			p.upTo = n
			a.mu.Lock()
			a.sent = append(a.sent, p)
			a.mu.Unlock()
			batch := append(in.Buffer(), flow.Record[Change]{Value: p.change, Time: flow.None})
			if err := in.Emit(ctx, batch, flow.Position{Offset: n}); err != nil {
				return nil
			}
			in.Idle()
		}
	}
}

// Commit implements flow.Source.
func (s *apiStream) Commit(_ context.Context, _ flow.Partition, upTo flow.Position) error {
	a := s.a
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.sent) > 0 && a.sent[0].upTo <= upTo.Offset {
		close(a.sent[0].done)
		a.sent = a.sent[1:]
	}
	return nil
}

// Replay implements flow.Source.
func (s *apiStream) Replay() flow.Replay { return flow.Seek }

// Close implements flow.Source.
func (s *apiStream) Close(context.Context) error {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if s.a.ends != nil {
		close(s.a.ends)
		s.a.ends = nil
	}
	return nil
}
