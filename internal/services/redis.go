package services

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

func findRedis() (string, error) {
	return findTool(Redis, cure("redis-server"), "redis-server")
}

func fetchRedis(ctx context.Context, s *Set) error {
	return debian{Redis, []string{"redis-server"}, []string{"redis-server"}, findRedis}.install(ctx, s)
}

func configureRedis(_ context.Context, s *Set, dir string) ([]string, error) {
	bin, err := findRedis()
	return append([]string{
		bin, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port(basePortRedis)), "--dir", dir,
		"--appendonly", "yes", "--save", "", "--daemonize", "no",
	}, s.opts.RedisArgs...), err
}

// readyRedis asks for an answer: a server that still loads its data refuses.
func readyRedis(ctx context.Context, s *Set) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Redis())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("PING gave %q", strings.TrimSpace(line))
	}
	return err
}
