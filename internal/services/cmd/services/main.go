// Command services starts and stops the servers that tests, benchmarks and the demo talk to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace-stream/millrace/internal/services"
)

const usage = `usage: services [flags] up [NAME...]     start what does not run, wait until it is ready
       services [flags] down [NAME...]   stop; data stays
       services [flags] status [NAME...]
       services [flags] start NAME       start one server
       services [flags] kill NAME        end one server with SIGKILL

Names: mosquitto, rocketmq-namesrv, rocketmq-broker, kafka, clickhouse; hivemq, redis, mariadb, postgresql.
None means all; to up, all before the semicolon.
State is in .services at the root of the repository (MILLRACE_SERVICES_DIR names another folder).

flags:
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var opts services.Options
	flag.IntVar(&opts.PortOffset, "offset", 0, "number added to every port: a multiple of 100; each offset is a set of its own")
	flag.StringVar(&opts.Dir, "dir", "", "state folder of the set (default set-OFFSET in the services folder)")
	flag.StringVar(&opts.ClickHouseConfig, "clickhouse-config", "", "ClickHouse configuration file merged over ours: disks, clusters")
	all := flag.Bool("all", false, "down: also stop the sets that tests started on other ports")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	verb, names := flag.Arg(0), flag.Args()
	if len(names) > 0 {
		names = names[1:]
	}
	if verb == "status" {
		opts.Names = names
	}
	opts.Logf = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	s, err := services.Open(opts)
	if err != nil {
		return err
	}
	switch {
	case verb == "up":
		if err := s.Up(ctx, names...); err != nil {
			return err
		}
		return s.Print(os.Stdout)
	case verb == "down" && *all:
		return services.DownAll(ctx, opts)
	case verb == "down":
		return s.Down(ctx, names...)
	case verb == "status":
		return s.Print(os.Stdout)
	case verb == "start" && len(names) == 1:
		return s.Start(ctx, names[0])
	case verb == "kill" && len(names) == 1:
		return s.Kill(ctx, names[0])
	}
	flag.Usage()
	return errors.New("services: no such command, or not with these names")
}
