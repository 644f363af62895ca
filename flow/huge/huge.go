// Package huge puts large tables on large pages of memory, where the system has them: a table that is read at random costs a walk through the
// page tables with nearly each access otherwise. It is advice: where the system does not take it, all is as before. The engine and the built-in
// operators use it; it is there for operators with large tables of their own.
//
// Linux takes the advice where /sys/kernel/mm/transparent_hugepage/enabled says madvise or always. Memory on large pages is given by the system 2 MiB
// at a time.
package huge

// From is the size in bytes from which memory is put on large pages. Smaller memory mostly lies between two of them.
const From = 4 << 20

// Make is make([]T, n): zeroed.
func Make[T any](n int) []T {
	s := make([]T, n)
	advise(s)
	return s
}

// Grow is append(s, make([]T, n)...): s with n zero elements more, in new memory where its capacity is too small; that grows by a quarter at least.
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
