//go:build !race

package window_test

const race = false
