package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// kuiper is eKuiper, a process of its own that is told by its REST API what to do.
type kuiper struct {
	dir         string
	mqtt, topic string

	home   string
	rest   string
	cmd    *exec.Cmd
	log    bytes.Buffer
	ended  chan struct{}
	cancel context.CancelFunc
	watch  chan struct{}
	n      atomic.Int64
}

func (k *kuiper) received() int64         { return k.n.Load() }
func (k *kuiper) failed() <-chan struct{} { return k.ended }

// start starts the process with the rule, and returns when the rule has subscribed.
func (k *kuiper) start(ctx context.Context) (err error) {
	if k.home, err = os.MkdirTemp("", "ekuiper-"); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(k.home, "etc"), os.DirFS(filepath.Join(k.dir, "etc"))); err != nil {
		return fmt.Errorf("the folder of eKuiper has to have its etc: %w", err)
	}
	for _, d := range []string{"data", "log", "plugins", "data/uploads"} {
		if err := os.MkdirAll(filepath.Join(k.home, d), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("default:\n  qos: 0\n  server: \"tcp://%s\"\n  protocolVersion: \"3.1.1\"\n", k.mqtt)
	if err := os.WriteFile(filepath.Join(k.home, "etc", "mqtt_source.yaml"), []byte(source), 0o644); err != nil {
		return err
	}
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return err
	}
	k.rest = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	k.log.Reset()
	k.ended = make(chan struct{})
	k.n.Store(0)
	k.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(k.dir, "kuiperd"))
	k.cmd.Dir = k.home
	k.cmd.Env = append(os.Environ(), "KuiperBaseKey="+k.home,
		"KUIPER__BASIC__RESTIP=127.0.0.1", fmt.Sprintf("KUIPER__BASIC__RESTPORT=%d", ports[0]),
		"KUIPER__BASIC__IP=127.0.0.1", fmt.Sprintf("KUIPER__BASIC__PORT=%d", ports[1]),
		"KUIPER__SOURCE__HTTPSERVERIP=127.0.0.1", fmt.Sprintf("KUIPER__SOURCE__HTTPSERVERPORT=%d", ports[2]),
		"KUIPER__BASIC__PPROF=false", "KUIPER__BASIC__LOGLEVEL=error", "KUIPER__BASIC__CONSOLELOG=true", "KUIPER__BASIC__FILELOG=false")
	k.cmd.Stdout, k.cmd.Stderr = &k.log, &k.log
	if err := k.cmd.Start(); err != nil {
		return fmt.Errorf("eKuiper: %w", err)
	}
	go func() {
		_ = k.cmd.Wait()
		close(k.ended)
	}()
	if err := k.set(ctx); err != nil {
		return errors.Join(fmt.Errorf("eKuiper: %w", err), k.stop(ctx))
	}
	var watching context.Context
	watching, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	k.watch = make(chan struct{})
	go k.count(watching)
	return nil
}

// cpu is the processor time that the process has had (Linux; 0 elsewhere).
func (k *kuiper) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name, which may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const tick = 10 * time.Millisecond
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

// set makes the stream and the rule, and waits until it runs.
func (k *kuiper) set(ctx context.Context) error {
	if err := k.wait(ctx, "its REST API", func() bool { return k.call(ctx, http.MethodGet, "/ping", nil, nil) == nil }); err != nil {
		return err
	}
	sql := fmt.Sprintf(`CREATE STREAM readings (temperature FLOAT, humidity FLOAT) WITH (DATASOURCE="%s/in/#", FORMAT="JSON", TYPE="mqtt")`, k.topic)
	if err := k.call(ctx, http.MethodPost, "/streams", map[string]any{"sql": sql}, nil); err != nil {
		return err
	}
	if err := k.call(ctx, http.MethodPost, "/rules", map[string]any{
		"id": "rule", "sql": ruleSQL,
		"actions": []any{map[string]any{"mqtt": map[string]any{"server": "tcp://" + k.mqtt, "topic": k.topic + "/out", "qos": 1, "sendSingle": true}}},
		"options": map[string]any{"bufferLength": 4 * ruleAhead},
	}, nil); err != nil {
		return err
	}
	return k.wait(ctx, "its rule", func() bool {
		s, err := k.status(ctx)
		return err == nil && s["status"] == "running" && s["source_readings_0_connection_status"] == 1.0
	})
}

func (k *kuiper) wait(ctx context.Context, for_ string, is func() bool) error {
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-k.ended:
			return fmt.Errorf("it has ended:\n%s", k.log.String())
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("nothing of %s for %v", for_, patience)
		}
	}
	return nil
}

func (k *kuiper) status(ctx context.Context) (s map[string]any, err error) {
	err = k.call(ctx, http.MethodGet, "/rules/rule/status", nil, &s)
	return s, err
}

// count follows how much the rule has read.
func (k *kuiper) count(ctx context.Context) {
	defer close(k.watch)
	for ctx.Err() == nil {
		if s, err := k.status(ctx); err == nil {
			if n, ok := s["source_readings_0_records_out_total"].(float64); ok {
				k.n.Store(int64(n))
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (k *kuiper) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.rest+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(b)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

func (k *kuiper) stop(ctx context.Context) error {
	if k.cmd == nil {
		return nil
	}
	if k.cancel != nil {
		k.cancel()
		<-k.watch
		k.cancel = nil
	}
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-k.ended:
	case <-time.After(15 * time.Second):
		_ = k.cmd.Process.Kill()
		<-k.ended
	case <-ctx.Done():
		_ = k.cmd.Process.Kill()
		<-k.ended
	}
	k.cmd = nil
	http.DefaultClient.CloseIdleConnections()
	return os.RemoveAll(k.home)
}

// freePorts are ports that nobody listens on.
func freePorts(ctx context.Context, n int) (ports []int, err error) {
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
