package fields

import "time"

// Time reads a string of RFC 3339; null leaves *p as it is.
func Time(r *Reader, i int, p *time.Time) int {
	begin, end, _ := r.text(i)
	switch {
	case end < 0:
		return -1
	case begin < 0:
		return end
	}
	if err := p.UnmarshalText(r.b[begin:end]); err != nil {
		return r.fail(begin, "the string is not a time of RFC 3339, such as 2006-01-02T15:04:05.999Z")
	}
	return end + 1
}

// The following read a whole number as time since 1970 in UTC; null leaves *p as it is.

// UnixSeconds reads seconds.
func UnixSeconds(r *Reader, i int, p *time.Time) int {
	return unix(r, i, p, func(n int64) time.Time { return time.Unix(n, 0) })
}

// UnixMillis reads milliseconds.
func UnixMillis(r *Reader, i int, p *time.Time) int { return unix(r, i, p, time.UnixMilli) }

// UnixMicros reads microseconds.
func UnixMicros(r *Reader, i int, p *time.Time) int { return unix(r, i, p, time.UnixMicro) }

// UnixNanos reads nanoseconds.
func UnixNanos(r *Reader, i int, p *time.Time) int {
	return unix(r, i, p, func(n int64) time.Time { return time.Unix(0, n) })
}

func unix(r *Reader, i int, p *time.Time, of func(int64) time.Time) int {
	if j := r.space(i); r.null(j) {
		return j + 4
	}
	var n int64
	if i = Int64(r, i, &n); i >= 0 {
		*p = of(n).UTC()
	}
	return i
}
