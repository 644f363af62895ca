// Package nexmark is the Nexmark benchmark: a stream of an auction house's events, made by the published rules (proportions, hot keys, prices and
// the number of open auctions and active people are those of the generator of Apache Beam and Flink), and its queries as typed topologies.
package nexmark

import (
	"math"
	"strconv"
	"time"
)

// Kind is what an event is.
type Kind uint8

// Kinds of events.
const (
	IsBid Kind = iota
	IsAuction
	IsPerson
)

// Event is a bid, an auction or a person.
type Event struct {
	// N is its number, from 0.
	N       int64
	At      int64 // ms since 1970
	Kind    Kind
	Bid     Bid
	Auction *Auction
	Person  *Person
}

// Bid is an offer for an auction.
type Bid struct {
	Auction, Bidder, Price int64
	Channel, URL           string
	At                     int64
	Extra                  string
}

// Auction is a thing on sale.
type Auction struct {
	ID, Seller, Category int64
	Item                 string
	Initial, Reserve     int64
	At, Expires          int64
}

// Person sells or bids.
type Person struct {
	ID                       int64
	Name, Email, City, State string
	At                       int64
}

// Of 50 events one is a person, three are auctions, and the others bids.
const (
	personsOf, auctionsOf, eventsOf = 1, 3, 50
	firstPerson, firstAuction       = 1000, 1000
	firstCategory, categories       = 10, 5
	activePeople, openAuctions      = 1000, 100
	hotStep                         = 100 // every hundredth is a hot one
	hotAuctions, hotSellers         = 2, 4
	hotBidders                      = 4
	aheadOf                         = 10 // ids of people and auctions not seen yet
)

// Generator makes events: number n is the same each time, whatever came before.
type Generator struct {
	seed  uint64
	base  int64
	perMs float64
	url   []string
}

// New makes a generator of rate events per second of event time.
func New(seed uint64, rate float64) *Generator {
	g := &Generator{seed: seed, base: 1_436_918_400_000, perMs: rate / 1000, url: make([]string, channels)}
	r := random{seed}
	for i := range g.url {
		g.url[i] = "https://www.nexmark.com/" + r.letters(5) + "/" + r.letters(5) + "/" + r.letters(5) + "/item.htm?query=1"
		if r.upTo(10) > 0 {
			g.url[i] += "&channel_id=" + strconv.Itoa(i)
		}
	}
	return g
}

// channels is how many bids come through beside the four large ones.
const channels = 10_000

var hotChannels = [4]string{"Google", "Facebook", "Baidu", "Apple"}

// random is splitmix64.
type random struct{ s uint64 }

func (r *random) next() uint64 {
	r.s += 0x9E3779B97F4A7C15
	z := r.s
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (r *random) upTo(n int64) int64 { return int64(r.next() >> 1 % uint64(n)) }
func (r *random) unit() float64      { return float64(r.next()>>11) / (1 << 53) }

func (r *random) letters(most int64) string {
	b := make([]byte, 3+r.upTo(most))
	for i := range b {
		b[i] = byte('a' + r.upTo(26))
	}
	return string(b)
}

// price is between 100 and 100 millions, as many of each magnitude.
func (r *random) price() int64 { return int64(math.Round(power(r.unit()*6) * 100)) }

// powers are those of 10 with exponents from 0 to 6.
var powers = func() (p [6*powersOf + 1]float64) {
	for i := range p {
		p[i] = math.Pow(10, float64(i)/powersOf)
	}
	return p
}()

const powersOf = 256

// power is 10 to the power of x, from 0 to 6: the next power below in the table, and the rest by its series, whose next term is below the last bit.
// math.Pow would be half of what an event costs.
func power(x float64) float64 {
	i := int(x * powersOf)
	z := (x - float64(i)/powersOf) * math.Ln10
	return powers[i] * (1 + z*(1+z*(1.0/2+z*(1.0/6+z*(1.0/24+z*(1.0/120+z*(1.0/720)))))))
}

// lastPerson and lastAuction are the numbers, from 0, of the last of them made before or with event n.
func lastPerson(n int64) int64 {
	epoch, offset := n/eventsOf, n%eventsOf
	return epoch*personsOf + min(offset, personsOf-1)
}

func lastAuction(n int64) int64 {
	epoch, offset := n/eventsOf, n%eventsOf
	switch {
	case offset < personsOf:
		return (epoch)*auctionsOf - 1
	case offset >= personsOf+auctionsOf:
		offset = auctionsOf - 1
	default:
		offset -= personsOf
	}
	return epoch*auctionsOf + offset
}

// somePerson is one of the active ones, or one soon to come.
func (r *random) somePerson(n int64) int64 {
	people := lastPerson(n) + 1
	active := min(people, activePeople)
	return max(people-active+r.upTo(active+aheadOf), 0)
}

func (r *random) someAuction(n int64) int64 {
	last := lastAuction(n)
	first := max(last-openAuctions, 0)
	return first + r.upTo(last-first+1+aheadOf)
}

// Fill makes event number n.
func (g *Generator) Fill(n int64, e *Event) {
	r := random{g.seed ^ uint64(n)*0xD1342543DE82EF95}
	r.next()
	e.N, e.At, e.Auction, e.Person = n, g.base+int64(float64(n)/g.perMs), nil, nil
	switch rem := n % eventsOf; {
	case rem < personsOf:
		e.Kind, e.Person = IsPerson, g.person(n, e.At, &r)
	case rem < personsOf+auctionsOf:
		e.Kind, e.Auction = IsAuction, g.auction(n, e.At, &r)
	default:
		e.Kind = IsBid
		g.bid(n, e.At, &r, &e.Bid)
	}
}

var (
	firstNames = [...]string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	lastNames  = [...]string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
	cities     = [...]string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	states     = [...]string{"AZ", "CA", "ID", "OR", "WA", "WY"}
)

func (g *Generator) person(n, at int64, r *random) *Person {
	return &Person{
		ID: lastPerson(n) + firstPerson, Name: firstNames[r.upTo(int64(len(firstNames)))] + " " + lastNames[r.upTo(int64(len(lastNames)))],
		Email: r.letters(7) + "@" + r.letters(5) + ".com", City: cities[r.upTo(int64(len(cities)))], State: states[r.upTo(int64(len(states)))], At: at,
	}
}

func (g *Generator) auction(n, at int64, r *random) *Auction {
	a := &Auction{ID: lastAuction(n) + firstAuction, Category: firstCategory + r.upTo(categories), Item: r.letters(20), Initial: r.price(), At: at}
	if r.upTo(hotSellers) > 0 {
		a.Seller = lastPerson(n) / hotStep * hotStep
	} else {
		a.Seller = r.somePerson(n)
	}
	a.Seller += firstPerson
	a.Reserve = a.Initial + r.price()
	// It is open for as long as it takes to make as many auctions as are open at once, twice that at most.
	horizon := int64(float64(openAuctions*eventsOf/auctionsOf) / g.perMs)
	a.Expires = at + 1 + r.upTo(max(2*horizon, 1))
	return a
}

func (g *Generator) bid(n, at int64, r *random, b *Bid) {
	b.At = at
	if r.upTo(hotAuctions) > 0 {
		b.Auction = lastAuction(n) / hotStep * hotStep
	} else {
		b.Auction = r.someAuction(n)
	}
	b.Auction += firstAuction
	if r.upTo(hotBidders) > 0 {
		b.Bidder = lastPerson(n)/hotStep*hotStep + 1
	} else {
		b.Bidder = r.somePerson(n)
	}
	b.Bidder += firstPerson
	b.Price = r.price()
	if r.upTo(2) > 0 {
		i := r.upTo(int64(len(hotChannels)))
		b.Channel, b.URL = hotChannels[i], g.url[i]
	} else {
		i := r.upTo(channels)
		b.Channel, b.URL = "channel-"+strconv.FormatInt(i, 10), g.url[i]
	}
	b.Extra = g.url[r.upTo(channels)]
}

// Time is the event's time.
func (e Event) Time() time.Time { return time.UnixMilli(e.At) }
