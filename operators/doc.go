// Package operators holds the operators of Millrace, one file each.
//
//	Map, Update, FlatMap  change records            stateless
//	Filter                lets some pass            stateless
//	Enrich                joins what a lookup knows stateless, asynchronous
//	Dedup                 drops repeats by id       per key, event time
//	Window                aggregates by time        per key, event time; results stand under Windowed
//
// Union, Split, KeyBy and AssignTime belong to package flow. Stateless operators take a flow.Stream, the others a flow.KeyedStream.
// They are built of flow's exported interfaces alone: an operator of your own is their equal.
package operators
