package main

import (
	"context"
	"flag"
)

func configCommand() command {
	return command{
		name:    "config",
		summary: "print the settings in effect, and where each comes from",
		help: `
Prints all settings as YAML that -config reads back. Behind each stands where its value comes from and the environment variable
that overrides it. Passwords stay hidden. A wrong file, variable or flag is an error that names the place and what is allowed.`,
		run: func(*flag.FlagSet) func(context.Context, *call) error {
			return func(_ context.Context, c *call) error { return c.cfg.Print(c.stdout) }
		},
	}
}
