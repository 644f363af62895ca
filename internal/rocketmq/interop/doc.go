// Package interop holds tests of our source and sink against the client library, and benchmarks of the two side by side. They
// stand apart because the library starts goroutines when it is imported, which ours are tested not to leave.
package interop
