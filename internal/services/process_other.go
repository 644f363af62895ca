//go:build !linux

package services

import (
	"context"
	"errors"
)

var errLinuxOnly = errors.New("services run on Linux only; elsewhere use compose.yaml")

// process is never made here.
type process struct{ pid int }

func spawn(context.Context, string, string, []string) (process, error) {
	return process{}, errLinuxOnly
}
func parseProcess(string) (process, error)         { return process{}, errLinuxOnly }
func lock(context.Context, string) (func(), error) { return nil, errLinuxOnly }

func (process) String() string   { return "" }
func (process) alive() bool      { return false }
func (process) terminate() error { return errLinuxOnly }
func (process) kill() error      { return errLinuxOnly }
func (process) memory() int64    { return 0 }
