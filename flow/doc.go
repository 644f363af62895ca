// Package flow is the vocabulary and the engine of Millrace: typed streams that compose into topologies, event time, keyed state, and
// epochs that tie the acks of sources, the state and the output of sinks together, so that nothing is lost when a process is killed.
//
// A program builds a Topology from From, the operators of package operators and To, and runs it by Run, or by AddTo beside other
// handlers of a Watermill router. Operators, sources and sinks of your own implement the interfaces of this package: the built-in ones use
// nothing else.
package flow
