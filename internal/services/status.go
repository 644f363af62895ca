package services

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Status is the state of one server.
type Status struct {
	Name string
	// Up says that the process runs; Ready that it also serves.
	Up, Ready bool
	PID       int
	// Addr is where clients connect.
	Addr string
	// Memory is the resident memory in bytes.
	Memory int64
	Log    string
}

// Status returns the state of the servers of the options, in a fixed order.
func (s *Set) Status() []Status {
	picked, _ := s.pick(nil) // Open checked the names
	list := make([]Status, len(picked))
	_ = each(picked, func(svc service) error {
		st := Status{Name: svc.name, Addr: s.addr(svc.ports[0]), Log: s.Log(svc.name)}
		if p, ok := s.running(svc.name); ok {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			st.Up, st.PID, st.Memory, st.Ready = true, p.pid, p.memory(), svc.ready(ctx, s) == nil
		}
		for i := range picked {
			if picked[i].name == svc.name {
				list[i] = st
			}
		}
		return nil
	})
	return list
}

// Print writes the state of the servers as a table.
func (s *Set) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tSTATE\tADDRESS\tPID\tMEMORY")
	for _, st := range s.Status() {
		switch {
		case !st.Up:
			fmt.Fprintf(t, "%s\tdown\t%s\t-\t-\n", st.Name, st.Addr)
		case !st.Ready:
			fmt.Fprintf(t, "%s\tnot ready\t%s\t%d\t%d MiB\n", st.Name, st.Addr, st.PID, st.Memory>>20)
		default:
			fmt.Fprintf(t, "%s\tready\t%s\t%d\t%d MiB\n", st.Name, st.Addr, st.PID, st.Memory>>20)
		}
	}
	return t.Flush()
}
