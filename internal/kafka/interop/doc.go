// Package interop holds tests of Kafka's source and sink together, in topologies of the real engine.
package interop
