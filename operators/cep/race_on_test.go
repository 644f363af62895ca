//go:build race

package cep_test

// race: the race detector is on, and everything takes ten times as long.
const race = true
