package iotbench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// AdEvent is something that a user did with an advertisement.
type AdEvent struct {
	User  string `json:"user_id"`
	Page  string `json:"page_id"`
	Ad    string `json:"ad_id"`
	Kind  string `json:"ad_type"`
	Event string `json:"event_type"`
	At    string `json:"event_time"`
	IP    string `json:"ip_address"`
	// N is the event's number. It stands in no payload.
	N int64 `json:"-"`
}

const adsPerCampaign = 10

// Ads is what events are made of.
type Ads struct {
	size              Size
	users, pages, ads []string
	kinds, events     []string
	campaigns         map[string]string
}

// NewAds makes a world with as many ads as there are devices, ten of each campaign.
func NewAds(s Size) *Ads {
	w := &Ads{size: s, campaigns: map[string]string{}, kinds: []string{"banner", "modal", "sponsored-search", "mail", "mobile"}, events: []string{"view", "click", "purchase"}}
	id := func(kind, n int) string {
		a, b := s.hash(int64(-2*(kind<<32+n)-2)), s.hash(int64(-2*(kind<<32+n)-3))
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xFFFF, a&0xFFFF, b>>48, b&0xFFFFFFFFFFFF)
	}
	for i := range 100 {
		w.users, w.pages = append(w.users, id(0, i)), append(w.pages, id(1, i))
	}
	for i := range s.Devices {
		w.ads = append(w.ads, id(2, i))
		w.campaigns[w.ads[i]] = id(3, i/adsPerCampaign)
	}
	return w
}

// Append appends the payload of event i.
func (w *Ads) Append(b []byte, i int64) []byte {
	h := w.size.hash(i)
	b = append(append(b, `{"user_id":"`...), w.users[among(h, len(w.users))]...)
	b = append(append(b, `","page_id":"`...), w.pages[h%uint64(len(w.pages))]...)
	b = append(append(b, `","ad_id":"`...), w.ads[among(h*0x9E3779B97F4A7C15, len(w.ads))]...)
	b = append(append(b, `","ad_type":"`...), w.kinds[h>>8%5]...)
	b = append(append(b, `","event_type":"`...), w.events[h>>16%3]...)
	b = strconv.AppendInt(append(b, `","event_time":"`...), w.size.at(i), 10)
	return append(b, `","ip_address":"1.2.3.4"}`...)
}

// view is what is needed of an event that counts.
type view struct {
	Ad, Campaign string
	N            int64
}

// Campaign is that of an ad.
func (w *Ads) Campaign(ad string) string { return w.campaigns[ad] }

// yahoo counts the views of each campaign in windows of 10 s.
func yahoo(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	w, c := NewAds(s), codec.JSON[AdEvent]()
	var payload []byte
	in := flow.From(t, "events", harness.From(l, func(i int64, e *AdEvent) {
		payload = w.Append(payload[:0], i)
		*e = AdEvent{N: i}
		if c.Decode(payload, e) != nil {
			*e = AdEvent{}
		}
	}))
	return campaigns(in, w.campaigns)
}

func campaigns(events flow.Stream[AdEvent], ofAd map[string]string) flow.Stream[Row] {
	at := func(e AdEvent) time.Time {
		ms, err := strconv.ParseInt(e.At, 10, 64)
		if err != nil {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	timed := flow.AssignTime(events, "time", at, inOrder())
	views := operators.Filter(timed, "views", func(e AdEvent) bool { return e.Event == "view" })
	projected := operators.Map(views, "projected", func(_ context.Context, e AdEvent) (view, error) { return view{Ad: e.Ad, N: e.N}, nil })
	joined := operators.Enrich(projected, "campaign", operators.Table[string, string](ofAd), func(v view) string { return v.Ad },
		func(v view, campaign string, _ bool) (view, error) {
			v.Campaign = campaign
			return v, nil
		})
	counted := operators.Window(flow.KeyBy(joined, func(v view) string { return v.Campaign }), "counts", window.Tumbling(10*time.Second), agg.Into(
		agg.To(func(r *Row) *int64 { return &r.Count }, agg.Count(func(v view) int64 { return v.N })),
		agg.To(func(r *Row) *int64 { return &r.N }, agg.Max(func(v view) int64 { return v.N })),
	))
	return operators.Map(counted, "row", func(_ context.Context, r window.Result[string, Row]) (Row, error) {
		r.Value.Key, r.Value.At = r.Key, end(r.End)
		return r.Value, nil
	})
}
