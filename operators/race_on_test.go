//go:build race

package operators_test

// race: the race detector is on, and everything takes ten times as long.
const race = true
