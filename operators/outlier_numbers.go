package operators

import (
	"encoding/binary"
	"math"
	"slices"
)

// lastNumbers are a key's last numbers. None is NaN or infinite.
type lastNumbers struct {
	numbers []float64
	next    int       // where the oldest is, once there are enough
	sorted  []float64 // made where a median is asked for
}

// push adds a number, and forgets the oldest beyond n.
func (l *lastNumbers) push(number float64, n int) {
	if len(l.numbers) > n { // there were more in an earlier version of the program
		l.numbers, l.sorted = slices.Clone(l.numbers[len(l.numbers)-n:]), nil
	}
	if len(l.numbers) < n {
		l.numbers = append(l.numbers, number)
	} else {
		old := l.numbers[l.next]
		l.numbers[l.next] = number
		if l.next++; l.next == n {
			l.next = 0
		}
		if l.sorted != nil {
			i, _ := slices.BinarySearch(l.sorted, old)
			l.sorted = slices.Delete(l.sorted, i, i+1)
		}
	}
	if l.sorted != nil {
		i, _ := slices.BinarySearch(l.sorted, number)
		l.sorted = slices.Insert(l.sorted, i, number)
	}
}

func (l *lastNumbers) meanAndDeviation() (mean, deviation float64) {
	// Summed from the first on, so that numbers that are all equal have just that mean.
	n, first, sum := float64(len(l.numbers)), l.numbers[0], 0.0
	for _, v := range l.numbers {
		sum += v - first
	}
	mean = first + sum/n
	squares := 0.0
	for _, v := range l.numbers {
		squares += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(squares / (n - 1))
}

func (l *lastNumbers) medianAndDeviation() (median, deviation float64) {
	if l.sorted == nil {
		l.sorted = slices.Clone(l.numbers)
		slices.Sort(l.sorted)
	}
	s := l.sorted
	h := len(s) / 2
	median = s[h]
	if len(s)%2 == 0 {
		median = s[h-1]/2 + s[h]/2
	}
	// The distances from the median rise to both sides of it: taken in turn, the nearer first, they come in order.
	lo, hi := h-1, h
	var before, at float64
	for range h + 1 {
		before = at
		if hi == len(s) || lo >= 0 && median-s[lo] < s[hi]-median {
			at = median - s[lo]
			lo--
		} else {
			at = s[hi] - median
			hi++
		}
	}
	deviation = at
	if len(s)%2 == 0 {
		deviation = before/2 + at/2
	}
	return median, 1.4826 * deviation
}

// MarshalBinary gives the numbers, the oldest first.
func (l *lastNumbers) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 8*len(l.numbers))
	for i := range l.numbers {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l.numbers[(l.next+i)%len(l.numbers)]))
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary gave.
func (l *lastNumbers) UnmarshalBinary(b []byte) error {
	if len(b)%8 != 0 {
		return errCells
	}
	*l = lastNumbers{numbers: make([]float64, 0, len(b)/8)}
	for ; len(b) > 0; b = b[8:] {
		l.numbers = append(l.numbers, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	return nil
}
