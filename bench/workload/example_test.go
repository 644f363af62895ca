package workload_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/bench/workload"
)

func Example() {
	job := workload.A()
	g := workload.New(job)
	fmt.Printf("%+v\n", g.Next(0))
	fmt.Println(job.Verify(workload.N, workload.FloorA(g, workload.N)))
	// Output:
	// {Device:dev-0008833 TS:1699999980000 Temperature:84.276123046875 Humidity:48.09112548828125 Seq:0}
	// <nil>
}
