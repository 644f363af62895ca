//go:build !race

package operators_test

const race = false
