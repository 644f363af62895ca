// Package operators holds the operators of Millrace, one file each.
//
//	Map, Update, FlatMap  change records            stateless
//	Filter                lets some pass            stateless
//	Enrich                joins what a lookup knows stateless, asynchronous
//	Dedup                 drops repeats by id       per key, event time
//	Window                aggregates by time        per key, event time; results stand under Windowed
//	Reduce, Scan          running results           per key
//	Stateful              state, timers, ttl        per key: what is missing here is written with it
//	GapFill               fills missing steps       per key, event time; under Gapless
//	OutOfRange, RateOfChange, ZScore, Hampel
//	                      sift outliers             per key; under Sifted
//	Join, OuterJoin       within an interval        two keyed streams, event time
//	WindowJoin, CoGroup   within a window           two keyed streams, event time
//	AsOf                  the last known value      two keyed streams, event time
//	Broadcast             rules for all keys        a keyed stream and a small one
//	CEP, CEPSet           patterns of events        per key, event time; under Matched
//	Rules                 alarms by rules in YAML   per key; they change while it runs
//
// Union, Split, KeyBy and AssignTime belong to package flow. Stateless operators take a flow.Stream, the others a flow.KeyedStream.
// They are built of flow's exported interfaces alone: an operator of your own is their equal.
package operators
