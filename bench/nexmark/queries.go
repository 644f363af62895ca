package nexmark

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// Row is a result of any query: up to four numbers and a text.
type Row struct {
	A, B, C, D int64
	Text       string
	// N is the number of the event that it is of, the last one where there are several.
	N int64
}

// Query is a query as a topology.
type Query struct {
	Name, About string
	// Build puts it behind a stream of events.
	Build func(events flow.Stream[Event]) flow.Stream[Row]
	// ByClock: results depend on processing time.
	ByClock bool
}

// Queries are those that a stream of single events can answer; q3, q4, q6 and q9 join without a bound in time, and are left out.
func Queries() []Query {
	return []Query{
		{"q0", "pass bids through", q0, false},
		{"q1", "bids in another currency", q1, false},
		{"q2", "bids for some auctions", q2, false},
		{"q5", "auctions with the most bids in 10 s, every 2 s", q5, false},
		{"q7", "highest bid of each 10 s", q7, false},
		{"q8", "people who opened an auction within 10 s of registering", q8, false},
		{"q11", "bids per session of a bidder, gap 10 s", q11, false},
		{"q12", "bids per bidder and 10 s of processing time", q12, true},
		{"q13", "bids joined with a bounded table", q13, false},
		{"q14", "calculation and filter with a user's function", q14, false},
		{"q17", "statistics of each auction and day, after each bid", q17, false},
		{"q18", "last bid of each bidder and auction", q18, false},
		{"q19", "the ten highest bids of each auction", q19, false},
		{"q21", "channel of each bid", q21, false},
		{"q22", "directories of each bid's URL", q22, false},
		{"cep0", "a bidder's three rising bids in a row, within 10 s", cep0, false},
		{"cep1", "a bid, and a higher one of another bidder for the same auction, within 10 s", cep1, false},
		{"cep2", "a bid after which an auction has none for 2 s", cep2, false},
		{"cep3", "a fall of prices of an auction and its recovery", cep3, false},
	}
}

type timed = flow.Stream[Event]

func inTime(s timed) timed {
	return flow.AssignTime(s, "time", Event.Time, watermark.Monotonous().Simulated())
}

// bids are those among the events.
func bids(s timed) flow.Stream[numbered] {
	return operators.FlatMap(s, "bids", func(_ context.Context, e Event, emit func(numbered)) error {
		if e.Kind == IsBid {
			emit(numbered{e.Bid, e.N})
		}
		return nil
	})
}

// numbered is a bid with its event's number.
type numbered struct {
	Bid
	N int64
}

func auctionOf(b numbered) int64 { return b.Auction }
func bidderOf(b numbered) int64  { return b.Bidder }
func numberOf(b numbered) int64  { return b.N }
func priceOf(b numbered) int64   { return b.Price }

func row(b numbered) Row { return Row{A: b.Auction, B: b.Bidder, C: b.Price, N: b.N} }

// mapped makes rows of bids one by one.
func mapped(f func(b numbered) Row) func(timed) flow.Stream[Row] {
	return func(s timed) flow.Stream[Row] {
		return operators.Map(bids(s), "rows", func(_ context.Context, b numbered) (Row, error) { return f(b), nil })
	}
}

func q0(s timed) flow.Stream[Row] { return mapped(row)(s) }

// dollars to euros, as the benchmark has it.
func euros(price int64) int64 { return price * 908 / 1000 }

func q1(s timed) flow.Stream[Row] {
	return mapped(func(b numbered) Row { r := row(b); r.C = euros(b.Price); return r })(s)
}

func q2(s timed) flow.Stream[Row] {
	chosen := operators.Filter(bids(s), "chosen", func(b numbered) bool { return b.Auction%123 == 0 })
	return operators.Map(chosen, "rows", func(_ context.Context, b numbered) (Row, error) { return row(b), nil })
}

// count is how many bids a window of an auction has, and the last of them.
type count struct{ Bids, Last int64 }

func counting() agg.Aggregate[numbered, count] {
	return agg.Into(
		agg.To(func(c *count) *int64 { return &c.Bids }, agg.Count(numberOf)),
		agg.To(func(c *count) *int64 { return &c.Last }, agg.Max(numberOf)),
	)
}

type counted = window.Result[int64, count]

// most are the auctions with the most bids.
type most struct {
	Bids, Last int64
	Auctions   []int64
}

func (m *most) add(c counted) {
	switch {
	case c.Value.Bids > m.Bids:
		m.Bids, m.Last, m.Auctions = c.Value.Bids, c.Value.Last, append(m.Auctions[:0], c.Key)
	case c.Value.Bids == m.Bids:
		m.Last, m.Auctions = max(m.Last, c.Value.Last), append(m.Auctions, c.Key)
	}
}

func (m *most) merge(o *most) {
	switch {
	case o.Bids > m.Bids:
		*m = *o
	case o.Bids == m.Bids:
		m.Last, m.Auctions = max(m.Last, o.Last), append(m.Auctions, o.Auctions...)
	}
}

func q5(s timed) flow.Stream[Row] {
	counts := operators.Window(flow.KeyBy(bids(inTime(s)), auctionOf), "counts", window.Sliding(10*time.Second, 2*time.Second), counting())
	// The results of one window have the time of its last moment: the window of 2 s that ends there holds them all.
	hottest := operators.Window(flow.KeyBy(counts, flow.Whole), "hottest", window.Tumbling(2*time.Second),
		agg.Func((*most).add, (*most).merge, func(m *most) most { return *m }))
	return operators.FlatMap(hottest, "rows", func(_ context.Context, r window.Result[struct{}, most], emit func(Row)) error {
		slices.Sort(r.Value.Auctions)
		for _, a := range r.Value.Auctions {
			emit(Row{A: a, B: r.Value.Bids, C: r.End.Time().UnixMilli(), N: r.Value.Last})
		}
		return nil
	})
}

func q7(s timed) flow.Stream[Row] {
	highest := operators.Window(flow.KeyBy(bids(inTime(s)), flow.Whole), "highest", window.Tumbling(10*time.Second), agg.ArgMax(priceOf, agg.Itself[numbered]))
	return operators.Map(highest, "rows", func(_ context.Context, r window.Result[struct{}, numbered]) (Row, error) { return row(r.Value), nil })
}

func q8(s timed) flow.Stream[Row] {
	s = inTime(s)
	people := operators.FlatMap(s, "people", func(_ context.Context, e Event, emit func(Event)) error {
		if e.Kind == IsPerson {
			emit(e)
		}
		return nil
	})
	auctions := operators.FlatMap(s, "auctions", func(_ context.Context, e Event, emit func(Event)) error {
		if e.Kind == IsAuction {
			emit(e)
		}
		return nil
	})
	return operators.CoGroup(flow.KeyBy(people, func(e Event) int64 { return e.Person.ID }), flow.KeyBy(auctions, func(e Event) int64 { return e.Auction.Seller }),
		"new-sellers", window.Tumbling(10*time.Second), func(g join.Group[int64, Event, Event], emit func(Row)) {
			if len(g.Left) > 0 && len(g.Right) > 0 {
				emit(Row{A: g.Key, B: g.Start.Time().UnixMilli(), Text: g.Left[0].Person.Name, N: g.Right[len(g.Right)-1].N})
			}
		})
}

func q11(s timed) flow.Stream[Row] {
	sessions := operators.Window(flow.KeyBy(bids(inTime(s)), bidderOf), "sessions", window.Session(10*time.Second), counting())
	return operators.Map(sessions, "rows", func(_ context.Context, r counted) (Row, error) {
		return Row{A: r.Key, B: r.Value.Bids, C: r.Start.Time().UnixMilli(), D: r.End.Time().UnixMilli(), N: r.Value.Last}, nil
	})
}

func q12(s timed) flow.Stream[Row] {
	counts := operators.Window(flow.KeyBy(bids(inTime(s)), bidderOf), "counts", window.Global(), counting(), window.EarlyClock(10*time.Second), window.Discarding())
	return operators.Map(counts, "rows", func(_ context.Context, r counted) (Row, error) {
		return Row{A: r.Key, B: r.Value.Bids, N: r.Value.Last}, nil
	})
}

// sideRows is how many rows the table of q13 has.
const sideRows = 10_000

func side(key int64) string { return "row-" + string(rune('a'+key%26)) }

// sides is the bounded table of q13, by key.
type sides []string

func (t sides) Get(key int64) (string, bool) { return t[key], true }

func (t sides) Lookup(_ context.Context, keys []int64, vals []string, found []bool) error {
	for i, k := range keys {
		vals[i], found[i] = t.Get(k)
	}
	return nil
}

func q13(s timed) flow.Stream[Row] {
	table := make(sides, sideRows)
	for i := range table {
		table[i] = side(int64(i))
	}
	return operators.Enrich(bids(s), "side", table, func(b numbered) int64 { return b.Auction % sideRows }, func(b numbered, with string, _ bool) (Row, error) {
		r := row(b)
		r.Text = with
		return r, nil
	})
}

func q14(s timed) flow.Stream[Row] {
	return operators.FlatMap(bids(s), "rows", func(_ context.Context, b numbered, emit func(Row)) error {
		price := euros(b.Price)
		if price <= 1_000_000 || price >= 50_000_000 {
			return nil
		}
		r := row(b)
		r.C, r.D, r.Text = price, int64(strings.Count(b.Extra, "c")), timeOfDay(b.At)
		emit(r)
		return nil
	})
}

func timeOfDay(ms int64) string {
	switch h := time.UnixMilli(ms).UTC().Hour(); {
	case h >= 8 && h <= 18:
		return "dayTime"
	case h <= 6 || h >= 20:
		return "nightTime"
	}
	return "otherTime"
}

// pair is a key of two numbers.
type pair [16]byte

func pairOf(a, b int64) (p pair) {
	binary.BigEndian.PutUint64(p[:], uint64(a))
	binary.BigEndian.PutUint64(p[8:], uint64(b))
	return p
}

// dayOf is an auction on a day.
func dayOf(b numbered) pair { return pairOf(b.Auction, b.At/86_400_000) }

// daily are the statistics of an auction's day.
type daily struct {
	Bids, Low, Middle, High int64
	Min, Max, Sum           int64
	Last                    numbered
}

func (d daily) add(b numbered) daily {
	if d.Bids == 0 || b.Price < d.Min {
		d.Min = b.Price
	}
	d.Max = max(d.Max, b.Price)
	d.Bids, d.Sum, d.Last = d.Bids+1, d.Sum+b.Price, b
	switch {
	case b.Price < 10_000:
		d.Low++
	case b.Price < 1_000_000:
		d.Middle++
	default:
		d.High++
	}
	return d
}

func q17(s timed) flow.Stream[Row] {
	stats := operators.Scan(flow.KeyBy(bids(inTime(s)), dayOf), "daily", daily.add, operators.IdleTTL(24*time.Hour))
	return operators.Map(stats, "rows", func(_ context.Context, d daily) (Row, error) {
		return Row{A: d.Last.Auction, B: d.Bids, C: d.Sum / d.Bids, D: d.Max, N: d.Last.N}, nil
	})
}

// offerOf is a bidder's interest in an auction.
func offerOf(b numbered) pair { return pairOf(b.Bidder, b.Auction) }

func q18(s timed) flow.Stream[Row] {
	last := operators.Reduce(flow.KeyBy(bids(inTime(s)), offerOf), "last", func(_, b numbered) numbered { return b }, operators.IdleTTL(time.Hour))
	return operators.Map(last, "rows", func(_ context.Context, b numbered) (Row, error) { return row(b), nil })
}

// top are the highest bids of an auction, highest first, and whether the last bid is among them.
type top struct {
	Prices  [10]int64
	N       int
	Changed bool
	Last    numbered
}

func (t top) add(b numbered) top {
	t.Last = b
	at, _ := slices.BinarySearchFunc(t.Prices[:t.N], b.Price, func(have, want int64) int { return cmp.Compare(want, have) })
	for at < t.N && t.Prices[at] == b.Price { // the earlier of equal ones stays before
		at++
	}
	if t.Changed = at < len(t.Prices); !t.Changed {
		return t
	}
	t.N = min(t.N+1, len(t.Prices))
	copy(t.Prices[at+1:t.N], t.Prices[at:t.N-1])
	t.Prices[at] = b.Price
	return t
}

func q19(s timed) flow.Stream[Row] {
	tops := operators.Scan(flow.KeyBy(bids(inTime(s)), auctionOf), "top", top.add, operators.IdleTTL(time.Hour))
	return operators.FlatMap(tops, "rows", func(_ context.Context, t top, emit func(Row)) error {
		if t.Changed {
			emit(Row{A: t.Last.Auction, B: t.Last.Price, C: t.Prices[0], D: int64(t.N), N: t.Last.N})
		}
		return nil
	})
}

func q21(s timed) flow.Stream[Row] {
	return operators.FlatMap(bids(s), "rows", func(_ context.Context, b numbered, emit func(Row)) error {
		id, ok := channelOf(b.Channel, b.URL)
		if ok {
			r := row(b)
			r.Text = id
			emit(r)
		}
		return nil
	})
}

func channelOf(channel, url string) (id string, ok bool) {
	switch channel {
	case "Apple":
		return "0", true
	case "Google":
		return "1", true
	case "Facebook":
		return "2", true
	case "Baidu":
		return "3", true
	}
	_, id, ok = strings.Cut(url, "channel_id=")
	id, _, _ = strings.Cut(id, "&")
	return id, ok
}

func q22(s timed) flow.Stream[Row] {
	return mapped(func(b numbered) Row { r := row(b); r.Text = directories(b.URL); return r })(s)
}

// directories is the fourth to sixth part between slashes.
func directories(url string) string {
	from := slash(url, 3)
	if from < 0 {
		return ""
	}
	rest := url[from+1:]
	to := slash(rest, 2)
	if to < 0 {
		return ""
	}
	if end := strings.IndexByte(rest[to+1:], '/'); end >= 0 {
		return rest[:to+1+end]
	}
	return rest
}

// slash is where the nth slash of s is, -1 if there is none.
func slash(s string, n int) int {
	at := -1
	for range n {
		next := strings.IndexByte(s[at+1:], '/')
		if next < 0 {
			return -1
		}
		at += 1 + next
	}
	return at
}

type (
	sofar   = *cep.Taken[numbered]
	matched = cep.Match[int64, numbered]
)

// ends makes a row of a match: its key, and the prices of its first and last event.
func ends(first, last string) func(context.Context, matched) (Row, error) {
	return func(_ context.Context, m matched) (Row, error) {
		a, b := m.First(first), m.Last(last)
		return Row{A: m.Key, B: a.Price, C: b.Price, D: int64(m.Len()), N: b.N}, nil
	}
}

// above tells whether a bid is higher than the last that a step has taken.
func above(step string) cep.StepOption[numbered] {
	return cep.WhereGiven(func(b numbered, had sofar) bool { last, ok := had.Last(step); return ok && b.Price > last.Price })
}

func below(step string) cep.StepOption[numbered] {
	return cep.WhereGiven(func(b numbered, had sofar) bool { last, ok := had.Last(step); return ok && b.Price < last.Price })
}

func cep0(s timed) flow.Stream[Row] {
	p := cep.Begin[numbered]("one").Next("two", above("one")).Next("three", above("two")).Within(10 * time.Second)
	return operators.CEP(flow.KeyBy(bids(inTime(s)), bidderOf), "rising", p, ends("one", "three"))
}

func cep1(s timed) flow.Stream[Row] {
	p := cep.Begin[numbered]("bid").FollowedBy("outbid", cep.WhereGiven(func(b numbered, had sofar) bool {
		last, _ := had.Last("bid")
		return b.Price > last.Price && b.Bidder != last.Bidder
	})).Within(10 * time.Second)
	return operators.CEP(flow.KeyBy(bids(inTime(s)), auctionOf), "outbid", p, ends("bid", "outbid"))
}

func cep2(s timed) flow.Stream[Row] {
	p := cep.Begin[numbered]("last").Absent("another", 2*time.Second)
	return operators.CEP(flow.KeyBy(bids(inTime(s)), auctionOf), "silent", p, ends("last", "last"))
}

func cep3(s timed) flow.Stream[Row] {
	p := cep.Begin[numbered]("top").Next("fall", below("top"), cep.Times(2), cep.Consecutive()).Next("recovery", above("top")).Within(10 * time.Second).AfterMatch(cep.SkipPastLast())
	return operators.CEP(flow.KeyBy(bids(inTime(s)), auctionOf), "recovery", p, ends("top", "recovery"))
}
