package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// memory is what one answer is parsed into, used again for the next.
type memory struct {
	slab    slab
	scratch scratch
}

func (m *memory) reset() { m.slab.used, m.scratch.used = 0, 0 }

// slab is the memory of records. It is the client's PoolRecords.
type slab struct {
	recs []kgo.Record
	used int
}

// maxSlab bounds what is kept: an answer may hold very many tiny records.
const maxSlab = 16 << 10

// GetRecords is the client's pool.
func (s *slab) GetRecords(n int) []kgo.Record {
	if s.used+n > len(s.recs) {
		if n > maxSlab {
			return make([]kgo.Record, n)
		}
		s.recs, s.used = make([]kgo.Record, min(max(2*len(s.recs), n, 1024), maxSlab)), 0
	}
	r := s.recs[s.used : s.used+n : s.used+n]
	s.used += n
	return r
}

// PutRecords is not needed: the whole slab is used again.
func (s *slab) PutRecords([]kgo.Record) {}

// scratch is the memory of decompressed batches. It is the client's PoolDecompressBytes.
type scratch struct {
	batches [][]byte
	used    int
	kept    int // bytes
	largest int // batch so far
}

// maxScratch bounds what is kept.
const maxScratch = 2 << 20

// measure is told of each batch.
func (s *scratch) measure(m kgo.FetchBatchMetrics) {
	s.largest = max(s.largest, min(m.UncompressedBytes, maxScratch))
}

// GetDecompressBytes is the client's pool. What does not fit into the answer is allocated by the client.
func (s *scratch) GetDecompressBytes([]byte, kgo.CompressionCodecType) []byte {
	if s.used == len(s.batches) {
		if s.kept+s.largest > maxScratch {
			return nil
		}
		s.batches = append(s.batches, nil)
	}
	b := &s.batches[s.used]
	s.used++
	if more := s.largest - cap(*b); more > 0 && s.kept+more <= maxScratch {
		*b = make([]byte, 0, s.largest)
		s.kept += more
	}
	return *b
}

// PutDecompressBytes is not needed: all is used again.
func (s *scratch) PutDecompressBytes([]byte) {}
