package flow

// DeadLetter is a record that could not be processed, with what is needed to find out why and to replay it.
type DeadLetter struct {
	Topology string
	Node     string
	// Cause is the error's text; Attempts how often the call was made.
	Cause    string
	Attempts int
	// Raw holds the original bytes where decoding failed.
	Raw []byte
	// Record holds the record in the node's codec (CBOR by field name) where decoding had succeeded, or the row that a sink's
	// system refused, in the sink's form.
	Record []byte
	// Key is the message's key or topic, where known.
	Key string
	// Time is the record's time, At when the fate was decided.
	Time Timestamp
	At   Timestamp
	// Partition and Position say where the record came from, where known.
	Partition string
	Position  Position
}
