//go:build linux

package services

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// MariaDB and PostgreSQL are killed in the tests of sources/lookup/sql, which need sets of their own anyhow.
func TestRedisKeepsDataThroughKill(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Redis)
	redis := func(command string) string {
		t.Helper()
		conn, err := net.Dial("tcp", s.Redis())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		_, err = fmt.Fprintf(conn, "%s\r\n", command)
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, "+OK\r\n", redis("SET kept 7"))
	require.NoError(t, s.Kill(t.Context(), Redis))
	require.NoError(t, s.Start(t.Context(), Redis))
	require.Equal(t, ":8\r\n", redis("INCR kept"))
}

func TestWhichServersAreStartedOnlyWhenNamed(t *testing.T) {
	t.Parallel()
	onDemand := []string{HiveMQ, Redis, MariaDB, PostgreSQL}
	for _, svc := range table() {
		require.Equal(t, slices.Contains(onDemand, svc.name), svc.onDemand, svc.name)
	}
}
