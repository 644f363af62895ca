package gen

// Random is a small generator of pseudorandom numbers that is made anew for every record, so that a record's randomness
// depends on its number alone. It allocates nothing, and is a rand.Source of math/rand/v2.
type Random struct{ state uint64 }

// At returns the generator of record i. Different seeds give unrelated streams.
func At(seed uint64, i int64) Random {
	return Random{mix(seed^0x6A09E667F3BCC909) + uint64(i)*0xD1342543DE82EF95}
}

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// Uint64 returns 64 random bits.
func (r *Random) Uint64() uint64 {
	r.state = mix(r.state + 0x9E3779B97F4A7C15)
	return mix(r.state ^ 0xBB67AE8584CAA73B)
}

// Float64 returns a number in [0, 1).
func (r *Random) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// IntN returns a number in [0, n). n must be above 0; above 2^32 it is slightly uneven.
func (r *Random) IntN(n int) int {
	if n <= 0 {
		panic("gen: IntN of a number that is not above 0")
	}
	return int((r.Uint64() >> 1) % uint64(n))
}

// Chance is true with probability p.
func (r *Random) Chance(p float64) bool { return r.Float64() < p }
