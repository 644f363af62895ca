package docs

import (
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/services"
)

// composeFile is what is read of compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Image       string            `yaml:"image"`
		Environment map[string]string `yaml:"environment"`
		Ports       []string          `yaml:"ports"`
		Volumes     []string          `yaml:"volumes"`
		Configs     []struct {
			Source string `yaml:"source"`
			Target string `yaml:"target"`
		} `yaml:"configs"`
		Healthcheck struct {
			Test []string `yaml:"test"`
		} `yaml:"healthcheck"`
	} `yaml:"services"`
	Configs map[string]struct {
		Content string `yaml:"content"`
	} `yaml:"configs"`
	Volumes map[string]any `yaml:"volumes"`
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("../compose.yaml")
	require.NoError(t, err)
	var c composeFile
	require.NoError(t, yaml.Unmarshal(text, &c))
	return c
}

// TestComposeIsWhole checks what can be checked without Docker: the servers are there, each with one version, on this machine alone,
// with a check of its health, and everything named is defined.
func TestComposeIsWhole(t *testing.T) {
	c := readCompose(t)
	pinned := regexp.MustCompile(`^[a-z/-]+:[0-9]+(\.[0-9]+)+$`)
	for _, name := range []string{"emqx", "namesrv", "broker", "kafka", "clickhouse", "redis"} {
		require.Contains(t, c.Services, name)
	}
	for name, s := range c.Services {
		require.Regexp(t, pinned, s.Image, name)
		require.NotEmpty(t, s.Healthcheck.Test, name)
		require.NotEmpty(t, s.Ports, name)
		for _, p := range s.Ports {
			require.True(t, strings.HasPrefix(p, "127.0.0.1:"), "%s: %s", name, p)
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			require.Contains(t, c.Volumes, volume, name)
		}
		for _, f := range s.Configs {
			require.Contains(t, c.Configs, f.Source, name)
			require.NotEmpty(t, f.Target, name)
		}
	}
}

// TestComposeHasThePortsOfMakeUp lets the same programs run on either.
func TestComposeHasThePortsOfMakeUp(t *testing.T) {
	set, err := services.Open(services.Options{})
	require.NoError(t, err)
	c := readCompose(t)
	for _, p := range []struct{ service, addr, inside string }{
		{"emqx", set.MQTT(), "1883"},
		{"namesrv", set.NameServer(), "9876"},
		{"broker", set.Broker(), "10911"},
		{"broker", set.BrokerMetrics(), "5557"},
		{"kafka", set.Kafka(), "19092"},
		{"clickhouse", set.ClickHouseHTTP(), "8123"},
		{"clickhouse", set.ClickHouseNative(), "9000"},
		{"redis", set.Redis(), "6379"},
	} {
		_, port, err := net.SplitHostPort(p.addr)
		require.NoError(t, err)
		require.Contains(t, c.Services[p.service].Ports, "127.0.0.1:"+port+":"+p.inside, p.service)
	}
	// A client learns these addresses from the server, so they must be the ones outside.
	require.Equal(t, "PLAINTEXT://"+set.Kafka(), c.Services["kafka"].Environment["KAFKA_ADVERTISED_LISTENERS"])
	_, port, err := net.SplitHostPort(set.Broker())
	require.NoError(t, err)
	require.Subset(t, strings.Split(c.Configs["broker"].Content, "\n"), []string{"brokerIP1=127.0.0.1", "listenPort=" + port})
}

// TestComposeLosesNothing checks the settings without which the servers lose messages, or hold a topology back.
func TestComposeLosesNothing(t *testing.T) {
	c := readCompose(t)
	emqx := c.Services["emqx"].Environment
	require.Equal(t, "2000", emqx["EMQX_MQTT__MAX_INFLIGHT"])
	require.Equal(t, "1000000", emqx["EMQX_MQTT__MAX_MQUEUE_LEN"])
	require.Equal(t, "24h", emqx["EMQX_MQTT__SESSION_EXPIRY_INTERVAL"])
	require.Equal(t, "hash_clientid", emqx["EMQX_MQTT__SHARED_SUBSCRIPTION_STRATEGY"])

	lines := strings.Split(c.Configs["broker"].Content, "\n")
	require.Subset(t, lines, []string{
		"maxTransferCountOnMessageInMemory=1024", "maxTransferBytesOnMessageInMemory=4194304",
		"maxTransferCountOnMessageInDisk=1024", "maxTransferBytesOnMessageInDisk=4194304",
		"waitTimeMillsInSendQueue=5000", "osPageCacheBusyTimeOutMills=5000", "flushConsumerOffsetInterval=1000",
		"enablePropertyFilter=true", "timerWheelEnable=true", "metricsExporterType=PROM", "namesrvAddr=namesrv:9876",
	})
	for _, l := range lines { // a file of Java properties
		require.True(t, l == "" || l[0] == '#' || strings.Contains(l, "="), "%q", l)
	}
	for name, s := range c.Services {
		// RocketMQ's image cannot write to a new volume; its name server keeps nothing.
		require.Equal(t, !slices.Contains([]string{"namesrv", "broker"}, name), len(s.Volumes) > 0, name)
	}
}
