package window

// Mark is what a record means to a state window. It is for the Window operator.
type Mark uint8

// Marks.
const (
	// Opens: it begins a window where none is open.
	Opens Mark = 1 << iota
	// Shuts: it ends the window that it is in.
	Shuts
	// Outside: it is in no window and ends the one that is open.
	Outside
)

// While makes a window of consecutive records of a key, in order of event time, for which on is true: how long a machine ran, a door stood
// open, a value lay above its limit. The first record for which on is false closes it and is not in it.
//
//	on      f   t  t  t     f   f   t  t ...
//	        |   |  |  |     |       |
//	window      [-----------)       [------   Start: the first record, End: the one that closes it
//
// The result comes when the watermark reaches the record that closes the window, and carries its time. A record for which on is false is in no
// window and counted (no_window). Of records of equal times the one that came first is first.
//
// It is the STATE_WINDOW of TDengine for one state, but for the End: there it is that of the last record in the state, which agg.Last gives here;
// the state was on until something else was said.
//
// State, late records, options and the end of the stream are those of Between. on must be pure and safe for concurrent use; it is called once,
// when the record comes, and a panic of it concerns that record only.
func While[T any](on func(T) bool) Assigner[T] {
	return func(c *Config) {
		c.Shape, c.Name = States, "while"
		if on == nil {
			c.Problem("the condition of window.While is nil", "give a function from record to bool")
			return
		}
		c.Marks = func(v T) Mark {
			if on(v) {
				return Opens
			}
			return Outside
		}
	}
}

// Between makes a window of the records of a key, in order of event time, from one for which open is true to the next for which shut is true,
// both in it: a batch from "started" to "finished", a journey from departure to arrival.
//
//	open         t           t          t
//	shut  t                       t  t  t
//	      |   |  |  |   |    |    |  |  |
//	window       [----------------]     []   Start: the record that opens it, End: 1 ns behind the one that shuts it
//
// A record for which both are true is a window by itself where none is open, and else shuts the one that is; open is of no matter while a
// window is open, and shut while none is. Records between windows are counted (no_window). Of records of equal times the one that came
// first is first. It is the EVENT_WINDOW of TDengine, except that a window that is open when the stream ends is given, too.
//
// The result comes when the watermark reaches the record that shuts the window, and carries its time. What the order of arrival was does not
// matter: records wait until the watermark reaches them. Late is a record whose time the watermark has reached when it comes, since what was
// decided without it is not taken back; it goes to Late(). So AllowedLateness, Early, OnCount, FinalOnly and Discarding are refused.
// When a bounded stream ends, or Stop flushes it, each open window is given as far as it has come: End is 1 ns behind its last record, and the
// result's time that of its last record, or just above the watermark before the end where that is higher.
//
// State: per record that waits for the watermark, an accumulator and 16 bytes, at most MaxPerKey per key; and per key with an open window, one
// accumulator and 24 bytes, for as long as it is open. Waiting records are stored as a log and written once, open windows by pages of 64 keys.
// A crash rolls back to the last epoch together with the sources, and the results of the replayed part come again, the same.
func Between[T any](open, shut func(T) bool) Assigner[T] {
	return func(c *Config) {
		c.Shape, c.Name = States, "between"
		if open == nil || shut == nil {
			c.Problem("a condition of window.Between is nil", "give two functions from record to bool")
			return
		}
		c.Marks = func(v T) (m Mark) {
			if open(v) {
				m |= Opens
			}
			if shut(v) {
				m |= Shuts
			}
			return m
		}
	}
}
