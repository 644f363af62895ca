package peers

import (
	"context"
	"math"
	"time"

	"github.com/millrace-stream/millrace/bench/workload"
)

// floor is the loop by hand, on one thread. It must know beforehand how many events there are: where the load has a duration, the number is
// taken from how long the first workload.N take.
func floor(j job) program {
	return func(ctx context.Context, in *input, r *workload.Result) error {
		took, n := in.load.Duration()
		if n <= 0 {
			began := time.Now()
			j.floor(in, workload.N)
			n = max(workload.N, int64(float64(workload.N)*took.Seconds()/time.Since(began).Seconds()))
		}
		in.begin()
		_, taken := in.load.Take(ctx, int(min(n, math.MaxInt32)))
		*r = j.floor(in, int64(taken))
		return nil
	}
}
