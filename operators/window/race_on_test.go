//go:build race

package window_test

// race: the race detector is at work, with which everything takes ten times as long.
const race = true
