// Package huge puts large tables on large pages of memory, where the system has them: a table that is read at random costs a walk through the
// page tables with nearly each access otherwise. It is advice: where the system does not take it, all is as before.
package huge

// From is the size in bytes from which memory is put on large pages. Smaller memory mostly lies between two of them.
const From = 4 << 20

// Make is make([]T, n).
func Make[T any](n int) []T {
	s := make([]T, n)
	advise(s)
	return s
}

// Grow is append(s, make([]T, n)...).
func Grow[T any](s []T, n int) []T {
	if len(s)+n <= cap(s) {
		at := len(s)
		s = s[:at+n]
		clear(s[at:])
		return s
	}
	c := max(len(s)+n, cap(s)*2)
	if cap(s) > 1024 {
		c = max(len(s)+n, cap(s)+cap(s)/4)
	}
	to := make([]T, c)
	advise(to)
	copy(to, s)
	return to[:len(s)+n]
}
