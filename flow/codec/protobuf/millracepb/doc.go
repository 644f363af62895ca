// Package millracepb holds the field options of options.proto, which mark event time and event id. Copy or vendor that file as
// millrace/options.proto where your own .proto files are compiled.
package millracepb
