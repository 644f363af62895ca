//go:build !race

package cep_test

const race = false
