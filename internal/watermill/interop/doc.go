// Package interop holds tests and benchmarks of sources/watermill and sinks/watermill with Pub/Subs of Watermill's family. They stand
// apart because they need both sides, and clients that start goroutines when they are imported.
package interop
