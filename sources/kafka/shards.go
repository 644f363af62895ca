package kafka

import "fmt"

// shardsMoved is the error of a partition whose keys were written for another number of shards than before.
func shardsMoved(offset int64, now, before string) error {
	return fmt.Errorf("kafka source: the record at offset %d was written when the topic had %s partitions, those before it when it had %s: "+
		"keys have moved to other partitions, and their state is with the old ones; let the state go with the keys by leaving "+
		"flow.CoPartitioned and check_shards out, or start under a new topology name, or flow.DropState", offset, now, before)
}
