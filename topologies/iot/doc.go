// Package iot is the data path of an IoT platform, ready to run: devices publish readings over MQTT, and ClickHouse holds count,
// average, least and greatest temperature per device and minute.
//
// Each box of the path is an ordinary function from stream to stream (Accepted, Clean, PerMinute), so the boxes run fused in one
// process (All) or apart, with RocketMQ between them (Ingest and Data), without a change. The command in cmd/iot runs them, simulates
// the devices, and checks what arrived against the simulator's ledger; docs/ledger.md has the rules by which both count.
package iot
