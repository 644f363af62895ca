// Package e2e runs the IoT data path end to end: simulator, mosquitto, iot ingest, RocketMQ, iot data and ClickHouse, each a process of
// its own, and compares what arrives with the simulator's ledger, row by row. See docs/ledger.md for the rules.
//
// E2E_READINGS is how many readings are published (100,000), E2E_RATE how many per second, E2E_SEED makes load and kills repeatable.
package e2e
