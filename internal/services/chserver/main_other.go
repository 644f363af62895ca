//go:build !linux

// Command chserver runs ClickHouse out of libchdb, on Linux only.
package main

import "log"

func main() { log.Fatal("chserver: runs on Linux only; elsewhere use compose.yaml") }
