package services

import (
	"bytes"
	"context"
	_ "embed" // for the Maven project and the log configuration
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed rocketmq/pom.xml
var rocketPOM string

//go:embed rocketmq/rmq.logback.xml
var rocketLogback string

const rocketJars = "rocketmq-5.5.0"

func fetchRocketMQ(ctx context.Context, s *Set) error {
	return s.fetchedJars(ctx, "rocketmq", rocketJars, rocketPOM)
}

func configureNameSrv(_ context.Context, s *Set, dir string) ([]string, error) {
	conf := map[string]string{
		"listenPort":  strconv.Itoa(s.port(basePortNameSrv)),
		"bindAddress": "127.0.0.1",
	}
	return s.rocketMQ(dir, "org.apache.rocketmq.namesrv.NamesrvStartup", conf, "-Xms64m", "-Xmx128m", "-XX:MaxDirectMemorySize=64m")
}

func configureBroker(_ context.Context, s *Set, dir string) ([]string, error) {
	port := s.port(basePortBroker)
	conf := map[string]string{
		"brokerClusterName": "DefaultCluster",
		"brokerName":        "broker-a",
		"brokerId":          "0",
		"brokerRole":        "ASYNC_MASTER",
		"brokerIP1":         "127.0.0.1",
		"brokerIP2":         "127.0.0.1",
		"bindAddress":       "127.0.0.1",
		"listenPort":        strconv.Itoa(port),
		"haListenPort":      strconv.Itoa(port + 1), // on all interfaces: no setting binds it
		"namesrvAddr":       s.NameServer(),
		// A name server that comes back learns of the broker within 10 s, the least the broker accepts.
		"registerNameServerPeriod": "10000",

		"autoCreateTopicEnable":       "true",
		"autoCreateSubscriptionGroup": "true",
		"enablePropertyFilter":        "true", // for SQL expressions of subscriptions

		"storePathRootDir":           filepath.Join(dir, "store"),
		"storePathCommitLog":         filepath.Join(dir, "store", "commitlog"),
		"flushDiskType":              "ASYNC_FLUSH",
		"fileReservedTime":           "1",
		"diskMaxUsedSpaceRatio":      "95",
		"mappedFileSizeCommitLog":    "67108864", // small files: the defaults reserve gigabytes
		"mappedFileSizeConsumeQueue": "600000",
		"maxHashSlotNum":             "50000",
		"maxIndexNum":                "200000",
		"timerWheelEnable":           "true",
		"mappedFileSizeTimerLog":     "8388608",
		"timerWheelSlots":            "604800",

		// The default gives at most 32 messages per pull.
		"maxTransferCountOnMessageInMemory": "1024",
		"maxTransferBytesOnMessageInMemory": "4194304",
		"maxTransferCountOnMessageInDisk":   "1024",
		"maxTransferBytesOnMessageInDisk":   "4194304",

		// On a busy machine the defaults answer "broker busy".
		"waitTimeMillsInSendQueue":    "5000",
		"osPageCacheBusyTimeOutMills": "5000",
		// Offsets reach the disk every second: with the default of 5 s a kill forgets confirmed ones.
		"flushConsumerOffsetInterval": "1000",
		"transactionCheckInterval":    "3000",
		"transactionTimeOut":          "3000",

		"metricsExporterType":     "PROM",
		"metricsPromExporterHost": "127.0.0.1",
		"metricsPromExporterPort": strconv.Itoa(s.port(basePortMetrics)),
	}
	maps.Copy(conf, s.opts.BrokerConf)
	return s.rocketMQ(dir, "org.apache.rocketmq.broker.BrokerStartup", conf,
		"-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=256m", "-Drocketmq.broker.diskSpaceWarningLevelRatio=0.98")
}

// rocketMQ writes the configuration and returns the command line of one of RocketMQ's servers.
func (s *Set) rocketMQ(dir, class string, conf map[string]string, jvm ...string) ([]string, error) {
	java, err := findJava("rocketmq")
	if err != nil {
		return nil, err
	}
	var lines strings.Builder
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&lines, "%s=%s\n", k, conf[k])
	}
	file := filepath.Join(dir, "server.conf")
	if err := writeFile(file, lines.String()); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "classes", "rmq.logback.xml"), rocketLogback); err != nil {
		return nil, err
	}
	argv := slices.Concat([]string{java}, jvm, s.shortLived(), s.opts.RocketJVM)
	// Serial collector, no performance files: small and quick to start on a shared machine.
	return append(argv, "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError",
		"-Drocketmq.home.dir="+dir, "-Duser.home="+dir,
		"-cp", filepath.Join(dir, "classes")+":"+filepath.Join(s.cache(rocketJars), "*"),
		class, "-c", file), nil
}

func readyNameSrv(ctx context.Context, s *Set) error {
	_, err := remote(ctx, s.NameServer(), getClusterInfo, nil, nil)
	return err
}

// readyBroker waits for the broker's own word and for the name server to give the broker's address to clients.
func readyBroker(ctx context.Context, s *Set) error {
	log, err := os.ReadFile(s.Log(RocketBroker))
	if err != nil {
		return err
	}
	if !bytes.Contains(log, []byte("boot success")) {
		return errors.New(`no "boot success" in the log`)
	}
	if err := s.dial(ctx, basePortBroker); err != nil {
		return err
	}
	return s.route(ctx, "SELF_TEST_TOPIC") // a topic that every broker has
}

// route returns nil when the name server sends clients of the topic to the broker.
func (s *Set) route(ctx context.Context, topic string) error {
	answer, err := remote(ctx, s.NameServer(), getRoute, map[string]string{"topic": topic}, nil)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer.body, []byte(`"`+s.Broker()+`"`)) {
		return fmt.Errorf("the name server has no route of topic %s to %s", topic, s.Broker())
	}
	return nil
}

// CreateTopic creates a RocketMQ topic with that many queues and waits until the name server gives its route, which can
// take seconds after a fresh start. A topic that exists keeps its messages.
func (s *Set) CreateTopic(ctx context.Context, topic string, queues int) error {
	n := strconv.Itoa(queues)
	_, err := remote(ctx, s.Broker(), createTopic, map[string]string{
		"topic": topic, "defaultTopic": "TBW102", "readQueueNums": n, "writeQueueNums": n, "perm": "6",
		"topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
	}, nil)
	if err != nil {
		return fmt.Errorf("services: create topic %s: %w", topic, err)
	}
	var last error
	err = until(ctx, func() bool {
		last = s.route(ctx, topic)
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("services: create topic %s: %w", topic, errors.Join(err, last))
	}
	return nil
}
