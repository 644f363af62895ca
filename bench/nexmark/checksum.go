package nexmark

// Checksums by which programs in other languages show that they make the same events, and that their queries give the same rows. Each is a chain of
// mixes over the fields in order; a text counts as its 64 bit FNV-1a.

type checksum uint64

func (c *checksum) number(vs ...int64) {
	for _, v := range vs {
		*c = checksum(mix(uint64(*c) ^ uint64(v)))
	}
}

func (c *checksum) text(ts ...string) {
	for _, t := range ts {
		h := uint64(0xcbf29ce484222325)
		for i := range len(t) {
			h = (h ^ uint64(t[i])) * 0x100000001b3
		}
		c.number(int64(h))
	}
}

// mix is one step of splitmix64 from s on.
func mix(s uint64) uint64 { return (&random{s}).next() }

// Checksum covers number, time, kind and all fields of the bid, auction or person.
func (e *Event) Checksum() uint64 {
	var c checksum
	c.number(e.N, e.At, int64(e.Kind))
	switch e.Kind {
	case IsBid:
		b := &e.Bid
		c.number(b.Auction, b.Bidder, b.Price, b.At)
		c.text(b.Channel, b.URL, b.Extra)
	case IsAuction:
		a := e.Auction
		c.number(a.ID, a.Seller, a.Category, a.Initial, a.Reserve, a.At, a.Expires)
		c.text(a.Item)
	case IsPerson:
		p := e.Person
		c.number(p.ID, p.At)
		c.text(p.Name, p.Email, p.City, p.State)
	}
	return uint64(c)
}

// Checksum covers all fields. That of many rows is the sum, so that their order does not matter.
func (r Row) Checksum() uint64 {
	var c checksum
	c.number(r.A, r.B, r.C, r.D, r.N)
	c.text(r.Text)
	return uint64(c)
}
