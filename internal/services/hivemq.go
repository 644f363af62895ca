package services

import (
	"bytes"
	"cmp"
	"context"
	_ "embed" // for the Maven project and the main program
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed hivemq/pom.xml
var hivePOM string

//go:embed hivemq/Broker.java
var hiveMain string

// HiveMQ is a broker of MQTT 5: exact with Receive Maximum, durable sessions.
const HiveMQ = "hivemq"

const (
	hiveJars     = "hivemq-2025.5"
	basePortHive = 18830
)

// HiveMQ returns host:port of HiveMQ.
func (s *Set) HiveMQ() string { return s.addr(basePortHive) }

func hiveService() service {
	return service{
		name: HiveMQ, ports: []int{basePortHive}, onDemand: true,
		fetch: fetchHiveMQ, configure: configureHiveMQ, ready: readyHiveMQ,
	}
}

// hiveOpens is what the broker asks of the Java runtime.
var hiveOpens = []string{
	"--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
	"--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
}

// fetchHiveMQ compiles the main program beside the jars: the one in them lets nobody in. The compiler is a module that Debian's
// runtime has too.
func fetchHiveMQ(ctx context.Context, s *Set) error {
	if err := s.fetchedJars(ctx, HiveMQ, hiveJars, hivePOM); err != nil {
		return err
	}
	return named(HiveMQ, s.fetched(ctx, "javac", hiveJars+"-main", func(dir string) error {
		java, err := findJava(HiveMQ)
		if err != nil {
			return err
		}
		jars, err := filepath.Glob(filepath.Join(s.cache(hiveJars), "*.jar")) // started this way, the compiler takes no wildcard
		if err != nil {
			return err
		}
		source := filepath.Join(dir, "Broker.java")
		if err := writeFile(source, hiveMain); err != nil {
			return err
		}
		return run(ctx, dir, nil, java, "-m", "jdk.compiler/com.sun.tools.javac.Main", "-proc:none",
			"-cp", strings.Join(jars, string(filepath.ListSeparator)), "-d", dir, source)
	}))
}

func configureHiveMQ(_ context.Context, s *Set, dir string) ([]string, error) {
	java, err := findJava(HiveMQ)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<hivemq>
  <listeners>
    <tcp-listener><port>%d</port><bind-address>127.0.0.1</bind-address></tcp-listener>
  </listeners>
  <mqtt>
    <queued-messages><max-queue-size>%d</max-queue-size><strategy>discard</strategy></queued-messages>
    <receive-maximum><server-receive-maximum>%d</server-receive-maximum></receive-maximum>
    <packets><max-packet-size>%d</max-packet-size></packets>
  </mqtt>
  <persistence><mode>file</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
`, s.port(basePortHive), cmp.Or(s.opts.HiveQueued, 1_000_000), cmp.Or(s.opts.HiveReceiveMaximum, 1000), cmp.Or(s.opts.HiveMaxPacket, 1<<20))
	if err := writeFile(filepath.Join(dir, "conf", "config.xml"), conf); err != nil {
		return nil, err
	}
	for _, folder := range []string{"data", "logs", "extensions"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return nil, err
		}
	}
	argv := append([]string{
		java, "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError",
		// A third of the work of a start: it is started more often than it works hard.
		"-XX:TieredStopAtLevel=1", "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote",
	}, hiveOpens...)
	return append(argv, "-Dhivemq.log.folder="+filepath.Join(dir, "logs"), fmt.Sprintf("-Dwindow=%d", cmp.Or(s.opts.HiveInflight, 1000)),
		"-cp", s.cache(hiveJars+"-main")+string(filepath.ListSeparator)+filepath.Join(s.cache(hiveJars), "*"), "Broker", dir), nil
}

// readyHiveMQ connects as a client of MQTT 5: the port answers before the broker does.
func readyHiveMQ(ctx context.Context, s *Set) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.HiveMQ())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	connect := []byte{
		0x10, 18, 0, 4, 'M', 'Q', 'T', 'T', 5,
		2,     // clean start
		0, 10, // keep alive
		0,                             // no properties
		0, 5, 'r', 'e', 'a', 'd', 'y', // client id
	}
	if _, err := conn.Write(connect); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if answer[0] != 0x20 || !bytes.HasSuffix(answer, []byte{0}) {
		return fmt.Errorf("connect: answer % x", answer)
	}
	_, err = conn.Write([]byte{0xe0, 0})
	return err
}
