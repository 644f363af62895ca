//go:build linux

package services

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOpenChecksOptions(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]Options{
		"port offset 7":       {PortOffset: 7},
		"port offset 4100":    {PortOffset: 4100},
		`no service "nats"`:   {Names: []string{"nats"}},
		"set both or neither": {MosquittoUser: "me"},
	} {
		_, err := Open(opts)
		require.ErrorContains(t, err, want)
	}
	s, err := Open(Options{PortOffset: 300, Dir: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t,
		[]string{"127.0.0.1:19131", "127.0.0.1:10176", "127.0.0.1:11211", "127.0.0.1:19392", "127.0.0.1:19300", "127.0.0.1:18423", "127.0.0.1:5857"},
		[]string{s.MQTT(), s.NameServer(), s.Broker(), s.Kafka(), s.ClickHouseNative(), s.ClickHouseHTTP(), s.BrokerMetrics()})
}

func TestPortsOfSetsNeverMeet(t *testing.T) {
	t.Parallel()
	taken := map[int]string{}
	for offset := 0; offset <= maxPortOffset; offset += portOffsetStep {
		for _, svc := range table() {
			for _, base := range svc.ports {
				name := fmt.Sprintf("%s at offset %d", svc.name, offset)
				require.Empty(t, taken[base+offset], name)
				taken[base+offset] = name
			}
		}
	}
}

func TestServicesFolderFromEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(dirEnv, dir)
	s, err := Open(Options{PortOffset: 200})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "set-200", "kafka", "log"), s.Log(Kafka))
}

func TestMissingToolNamesTheCure(t *testing.T) {
	t.Setenv(dirEnv, t.TempDir())
	t.Setenv("JAVA_HOME", "")
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	s, err := Open(Options{PortOffset: maxPortOffset})
	require.NoError(t, err)
	missing := func(service string) (got *MissingToolError) {
		err := s.Up(t.Context(), service)
		require.ErrorAs(t, err, &got)
		require.ErrorContains(t, err, "install it with: apt-get install")
		return got
	}
	require.Equal(t, "npm", missing(ClickHouse).Tool)
	require.Equal(t, "java", missing(Kafka).Tool)
	require.Equal(t, "java", missing(RocketBroker).Tool)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "java"), nil, 0o700))
	require.Equal(t, "mvn", missing(Kafka).Tool)
	require.NoDirExists(t, s.cache(kafkaJars), "a failed download must leave nothing")
}

func TestUpTwiceAtOnceStartsOnce(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Mosquitto)
	first := s.Status()[0].PID
	require.NoError(t, s.Kill(t.Context(), Mosquitto))

	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = s.Up(t.Context()) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	second := s.Status()[0]
	require.True(t, second.Ready)
	require.NotEqual(t, first, second.PID)
	require.NoError(t, s.Up(t.Context()))
	require.Equal(t, second.PID, s.Status()[0].PID)

	require.NoError(t, s.Down(t.Context()))
	require.NoError(t, s.Down(t.Context()))
	require.NoError(t, s.Kill(t.Context(), Mosquitto))
	require.False(t, s.Status()[0].Up)
}

func TestStatusTable(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{Names: []string{Mosquitto}})
	up := s.Status()[0]
	var table bytes.Buffer
	require.NoError(t, s.Print(&table))
	lines := strings.Split(table.String(), "\n")
	require.Equal(t, []string{"SERVICE", "STATE", "ADDRESS", "PID", "MEMORY"}, strings.Fields(lines[0]))
	require.Equal(t, []string{Mosquitto, "ready", s.MQTT(), fmt.Sprint(up.PID)}, strings.Fields(lines[1])[:4])

	require.NoError(t, s.Kill(t.Context(), Mosquitto))
	table.Reset()
	require.NoError(t, s.Print(&table))
	require.Equal(t, []string{Mosquitto, "down", s.MQTT(), "-", "-"}, strings.Fields(strings.Split(table.String(), "\n")[1]))
}

func TestPortTakenByAnother(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Mosquitto)
	require.NoError(t, s.Kill(t.Context(), Mosquitto))
	l, err := net.Listen("tcp", s.MQTT())
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.ErrorContains(t, s.Up(t.Context()), "is taken by a process that is not ours")
}

func TestStrangersAreNotKilled(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Dir: t.TempDir(), PortOffset: maxPortOffset, Names: []string{Mosquitto}})
	require.NoError(t, err)
	_, start, err := stat(os.Getpid())
	require.NoError(t, err)
	me := process{pid: os.Getpid(), start: start, boot: bootID()}
	require.True(t, me.alive())

	for _, stranger := range []process{
		{pid: me.pid, start: me.start + 1, boot: me.boot},
		{pid: me.pid, start: me.start, boot: "another boot"},
	} {
		require.NoError(t, writeFile(s.pidFile(Mosquitto), stranger.String()))
		require.False(t, s.Status()[0].Up)
		require.NoError(t, s.Kill(t.Context(), Mosquitto)) // would end this test
		require.NoFileExists(t, s.pidFile(Mosquitto))
	}
}

func TestZombieIsDead(t *testing.T) {
	t.Parallel()
	child, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 0"}, &os.ProcAttr{})
	require.NoError(t, err)
	_, start, err := stat(child.Pid)
	require.NoError(t, err)
	p := process{pid: child.Pid, start: start, boot: bootID()}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, until(ctx, func() bool { return !p.alive() }))
	state, _, err := stat(child.Pid)
	require.NoError(t, err)
	require.Equal(t, "Z", state)
	_, err = child.Wait()
	require.NoError(t, err)
}

func TestEndedServerShowsItsLog(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken.xml")
	require.NoError(t, os.WriteFile(broken, []byte("<clickhouse><oops>"), 0o600))
	s := Isolated(t, Options{ClickHouseConfig: broken}, Mosquitto)
	err := s.Start(t.Context(), ClickHouse)
	require.ErrorIs(t, err, errEnded)
	require.ErrorContains(t, err, "Exception")
}

func TestDeadlineEndsTheWait(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, Mosquitto)
	unlock, err := lock(t.Context(), filepath.Join(s.dir(Mosquitto), "lock"))
	require.NoError(t, err)
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Up(ctx), context.DeadlineExceeded)
}
