package nexmark_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/nexmark"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// perSecond is few: 20,000 events are 40 s.
const n, perSecond = 20_000, 500

type (
	row   = nexmark.Row
	event = nexmark.Event
)

func events() []event {
	g, es := nexmark.New(7, perSecond), make([]event, n)
	for i := range es {
		g.Fill(int64(i), &es[i])
	}
	return es
}

func TestGeneratorFollowsTheRules(t *testing.T) {
	es := events()
	var bids, auctions, people, hotAuction, hotBidder int
	seenPeople, seenAuctions := int64(1000), int64(1000)
	for i, e := range es {
		switch e.Kind {
		case nexmark.IsBid:
			bids++
			if (e.Bid.Auction-1000)%100 == 0 {
				hotAuction++
			}
			if (e.Bid.Bidder-1000)%100 == 1 {
				hotBidder++
			}
			require.Less(t, e.Bid.Auction, seenAuctions+10, "an auction of now, or soon")
			require.GreaterOrEqual(t, e.Bid.Price, int64(100))
			require.LessOrEqual(t, e.Bid.Price, int64(100_000_000))
		case nexmark.IsAuction:
			auctions++
			require.Equal(t, seenAuctions, e.Auction.ID, "ids count up")
			seenAuctions++
			require.Greater(t, e.Auction.Reserve, e.Auction.Initial)
			require.Greater(t, e.Auction.Expires, e.Auction.At)
		default:
			people++
			require.Equal(t, seenPeople, e.Person.ID)
			seenPeople++
		}
		require.Equal(t, int64(1_436_918_400_000)+int64(i)*1000/perSecond, e.At)
	}
	require.Equal(t, []int{n / 50 * 46, n / 50 * 3, n / 50}, []int{bids, auctions, people})
	require.InDelta(t, 0.5, float64(hotAuction)/float64(bids), 0.03, "half of the bids are for the hot auction")
	require.InDelta(t, 0.75, float64(hotBidder)/float64(bids), 0.03)
	var again event
	nexmark.New(7, perSecond).Fill(n-1, &again)
	require.Equal(t, es[n-1], again, "each event is made by itself")
	nexmark.New(8, perSecond).Fill(n-1, &again)
	require.NotEqual(t, es[n-1], again)
}

func run(t *testing.T, q nexmark.Query, es []event) []row {
	src, out := flowtest.NewSource[event](), flowtest.NewSink[row]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("nexmark", opts...)
		flow.To(q.Build(flow.From(top, "events", src)), "out", out)
		return top
	}, src)
	for chunk := range slices.Chunk(es, 1000) {
		src.Feed(chunk...)
	}
	r.Flush()
	return out.Values()
}

// TestQueries compares each query with a plain computation over all events.
func TestQueries(t *testing.T) {
	es := events()
	var bids []event
	for _, e := range es {
		if e.Kind == nexmark.IsBid {
			bids = append(bids, e)
		}
	}
	for _, q := range nexmark.Queries() {
		if q.ByClock {
			continue
		}
		t.Run(q.Name, func(t *testing.T) {
			want := oracles[q.Name]
			require.NotNil(t, want)
			expected := want(es, bids)
			require.NotEmpty(t, expected)
			require.Equal(t, sorted(expected), sorted(run(t, q, es)))
		})
	}
}

// q12 depends on the clock: all bids are counted once, whatever the clock does.
func TestQ12CountsEachBidOnce(t *testing.T) {
	es := events()
	for _, q := range nexmark.Queries() {
		if q.Name != "q12" {
			continue
		}
		var bids int64
		for _, r := range run(t, q, es) {
			bids += r.B
		}
		require.EqualValues(t, n/50*46, bids)
	}
}

func sorted(rs []row) []row {
	slices.SortFunc(rs, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.N, b.N), cmp.Compare(a.B, b.B), cmp.Compare(a.C, b.C), cmp.Compare(a.D, b.D), strings.Compare(a.Text, b.Text))
	})
	return rs
}

type oracle func(all, bids []event) []row

func rowOf(e event) row { return row{A: e.Bid.Auction, B: e.Bid.Bidder, C: e.Bid.Price, N: e.N} }

// each is an oracle of queries that look at bids one by one.
func each(f func(e event) (row, bool)) oracle {
	return func(_, bids []event) (rs []row) {
		for _, e := range bids {
			if r, ok := f(e); ok {
				rs = append(rs, r)
			}
		}
		return rs
	}
}

// grouped calls f with the bids of each key, in order.
func grouped[K comparable](bids []event, key func(event) K, f func(k K, of []event)) {
	groups := map[K][]event{}
	for _, e := range bids {
		groups[key(e)] = append(groups[key(e)], e)
	}
	for k, g := range groups {
		f(k, g)
	}
}

func byAuction(e event) int64 { return e.Bid.Auction }
func byBidder(e event) int64  { return e.Bid.Bidder }

var oracles = map[string]oracle{
	"q0": each(func(e event) (row, bool) { return rowOf(e), true }),
	"q1": each(func(e event) (row, bool) { r := rowOf(e); r.C = r.C * 908 / 1000; return r, true }),
	"q2": each(func(e event) (row, bool) { return rowOf(e), e.Bid.Auction%123 == 0 }),
	"q5": func(_, bids []event) (rs []row) {
		first, last := bids[0].At/2000*2000-8000, bids[len(bids)-1].At
		for start := first; start <= last; start += 2000 {
			count, latest, best := map[int64]int64{}, map[int64]int64{}, int64(0)
			for _, e := range bids {
				if start <= e.At && e.At < start+10_000 {
					count[e.Bid.Auction]++
					latest[e.Bid.Auction] = e.N
					best = max(best, count[e.Bid.Auction])
				}
			}
			var end int64
			for a, c := range count {
				if c == best {
					end = max(end, latest[a])
				}
			}
			for a, c := range count {
				if c == best {
					rs = append(rs, row{A: a, B: c, C: start + 10_000, N: end})
				}
			}
		}
		return rs
	},
	"q7": func(_, bids []event) (rs []row) {
		grouped(bids, func(e event) int64 { return e.At / 10_000 }, func(_ int64, of []event) {
			best := of[0]
			for _, e := range of {
				if e.Bid.Price > best.Bid.Price {
					best = e
				}
			}
			rs = append(rs, rowOf(best))
		})
		return rs
	},
	"q8": func(all, _ []event) (rs []row) {
		for _, p := range all {
			if p.Kind != nexmark.IsPerson {
				continue
			}
			last := int64(-1)
			for _, a := range all {
				if a.Kind == nexmark.IsAuction && a.Auction.Seller == p.Person.ID && a.At/10_000 == p.At/10_000 {
					last = a.N
				}
			}
			if last >= 0 {
				rs = append(rs, row{A: p.Person.ID, B: p.At / 10_000 * 10_000, Text: p.Person.Name, N: last})
			}
		}
		return rs
	},
	"q11": func(_, bids []event) (rs []row) {
		grouped(bids, byBidder, func(k int64, of []event) {
			begin := 0
			for i := range of {
				if i+1 == len(of) || of[i+1].At > of[i].At+10_000 {
					rs = append(rs, row{A: k, B: int64(i + 1 - begin), C: of[begin].At, D: of[i].At + 10_000, N: of[i].N})
					begin = i + 1
				}
			}
		})
		return rs
	},
	"q13": each(func(e event) (row, bool) {
		r := rowOf(e)
		r.Text = "row-" + string(rune('a'+e.Bid.Auction%10_000%26))
		return r, true
	}),
	"q14": each(func(e event) (row, bool) {
		r := rowOf(e)
		r.C = r.C * 908 / 1000
		for _, c := range e.Bid.Extra {
			if c == 'c' {
				r.D++
			}
		}
		switch h := time.UnixMilli(e.At).UTC().Hour(); {
		case 8 <= h && h <= 18:
			r.Text = "dayTime"
		case h <= 6 || 20 <= h:
			r.Text = "nightTime"
		default:
			r.Text = "otherTime"
		}
		return r, r.C > 1_000_000 && r.C < 50_000_000
	}),
	"q17": func(_, bids []event) (rs []row) {
		grouped(bids, byAuction, func(k int64, of []event) {
			for i := range of {
				sum, highest := int64(0), int64(0)
				for _, e := range of[:i+1] {
					sum, highest = sum+e.Bid.Price, max(highest, e.Bid.Price)
				}
				rs = append(rs, row{A: k, B: int64(i + 1), C: sum / int64(i+1), D: highest, N: of[i].N})
			}
		})
		return rs
	},
	"q18": each(func(e event) (row, bool) { return rowOf(e), true }),
	"q19": func(_, bids []event) (rs []row) {
		grouped(bids, byAuction, func(k int64, of []event) {
			for i, e := range of {
				var prices []int64
				for _, had := range of[:i+1] {
					prices = append(prices, had.Bid.Price)
				}
				slices.SortStableFunc(prices, func(a, b int64) int { return cmp.Compare(b, a) })
				if i < 10 || e.Bid.Price > prices[9] || e.Bid.Price == prices[9] && prices[9] > prices[10] {
					rs = append(rs, row{A: k, B: e.Bid.Price, C: prices[0], D: int64(min(len(prices), 10)), N: e.N})
				}
			}
		})
		return rs
	},
	"q21": each(func(e event) (row, bool) {
		r := rowOf(e)
		known := map[string]string{"Apple": "0", "Google": "1", "Facebook": "2", "Baidu": "3"}
		if id, ok := known[e.Bid.Channel]; ok {
			r.Text = id
			return r, true
		}
		i := strings.Index(e.Bid.URL, "&channel_id=")
		if i < 0 {
			return r, false
		}
		r.Text = e.Bid.URL[i+len("&channel_id="):]
		return r, true
	}),
	"q22": each(func(e event) (row, bool) {
		r := rowOf(e)
		r.Text = strings.Join(strings.Split(e.Bid.URL, "/")[3:6], "/")
		return r, true
	}),
	"cep0": func(_, bids []event) (rs []row) {
		grouped(bids, byBidder, func(k int64, of []event) {
			for i := 0; i+2 < len(of); i++ {
				if a, b, c := of[i], of[i+1], of[i+2]; a.Bid.Price < b.Bid.Price && b.Bid.Price < c.Bid.Price && c.At < a.At+10_000 {
					rs = append(rs, row{A: k, B: a.Bid.Price, C: c.Bid.Price, D: 3, N: c.N})
				}
			}
		})
		return rs
	},
	"cep1": func(_, bids []event) (rs []row) {
		grouped(bids, byAuction, func(k int64, of []event) {
			for i, a := range of {
				for _, b := range of[i+1:] {
					if b.At >= a.At+10_000 {
						break
					}
					if b.Bid.Price > a.Bid.Price && b.Bid.Bidder != a.Bid.Bidder {
						rs = append(rs, row{A: k, B: a.Bid.Price, C: b.Bid.Price, D: 2, N: b.N})
						break
					}
				}
			}
		})
		return rs
	},
	"cep2": func(all, bids []event) (rs []row) {
		grouped(bids, byAuction, func(k int64, of []event) {
			for i, e := range of {
				if i+1 == len(of) || of[i+1].At >= e.At+2000 {
					rs = append(rs, row{A: k, B: e.Bid.Price, C: e.Bid.Price, D: 1, N: e.N})
				}
			}
		})
		return rs
	},
	"cep3": func(_, bids []event) (rs []row) {
		grouped(bids, byAuction, func(k int64, of []event) {
			for i := 0; i+3 < len(of); i++ {
				a, b, c, d := of[i], of[i+1], of[i+2], of[i+3]
				if b.Bid.Price < a.Bid.Price && c.Bid.Price < a.Bid.Price && d.Bid.Price > a.Bid.Price && d.At < a.At+10_000 {
					rs = append(rs, row{A: k, B: a.Bid.Price, C: d.Bid.Price, D: 4, N: d.N})
					i += 3
				}
			}
		})
		return rs
	},
}
