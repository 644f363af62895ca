package services

import (
	"context"
	_ "embed" // for the Maven project
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed kafka/pom.xml
var kafkaPOM string

const (
	kafkaJars    = "kafka-4.4.0"
	kafkaCluster = "MillraceStreamServiceA" // any 16 bytes in base64
)

func fetchKafka(ctx context.Context, s *Set) error {
	return s.fetchedJars(ctx, Kafka, kafkaJars, kafkaPOM)
}

// configureKafka makes one node that is broker and controller, and formats its storage the first time.
func configureKafka(ctx context.Context, s *Set, dir string) ([]string, error) {
	java, err := findJava(Kafka)
	if err != nil {
		return nil, err
	}
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "server.properties")
	conf := []string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + s.addr(basePortController),
		"listeners=PLAINTEXT://" + s.Kafka() + ",CONTROLLER://" + s.addr(basePortController),
		"advertised.listeners=PLAINTEXT://" + s.Kafka(),
		"controller.listener.names=CONTROLLER",
		"log.dirs=" + data,
		"num.partitions=2",
		"num.network.threads=2",
		"num.io.threads=2",
		"offsets.topic.num.partitions=1",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.num.partitions=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
	}
	if err := writeFile(file, strings.Join(conf, "\n")+"\n"); err != nil {
		return nil, err
	}
	jars := filepath.Join(s.cache(kafkaJars), "*")
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); err != nil {
		err := run(ctx, dir, nil, java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", jars,
			"kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", file)
		if err != nil {
			return nil, err
		}
	}
	collector := "-XX:+UseG1GC"
	if s.opts.PortOffset > 0 {
		collector = "-XX:+UseSerialGC"
	}
	return slices.Concat([]string{java}, s.shortLived(), []string{
		"-Xms256m", "-Xmx512m", collector, "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", jars, "kafka.Kafka", file,
	}), nil
}

// readyKafka asks for metadata: only a broker that serves is in the answer, an open port is not enough.
func readyKafka(ctx context.Context, s *Set) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Kafka())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	request := []byte{
		0, 0, 0, 14,
		0, 3, 0, 1, // metadata, version 1
		0, 0, 0, 1, // correlation
		0xff, 0xff, // no client id
		0, 0, 0, 0, // no topics
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	answer, err := readFrame(conn)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if len(answer) < 8 || binary.BigEndian.Uint32(answer[4:]) == 0 {
		return errors.New("metadata: no live broker yet")
	}
	return nil
}
