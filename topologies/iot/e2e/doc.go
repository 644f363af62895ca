// Package e2e runs the IoT data path end to end: simulator, mosquitto, iot ingest, RocketMQ, iot data and ClickHouse, each a process of
// its own, and compares what arrives with the simulator's ledger, row by row. See docs/ledger.md for the rules.
//
// E2E_READINGS is how many readings are published (100,000; in the kill test 33,000 per kill of each victim), E2E_KILLS how often each
// victim is killed (3), E2E_RATE how many readings come per second, E2E_SEED makes load and kills repeatable.
package e2e
