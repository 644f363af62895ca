package services

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

const mosquittoCure = "apt-get install -y --no-install-recommends mosquitto"

// findMosquitto also looks where Debian puts it, which is not on the path of everybody.
func findMosquitto() (string, error) {
	return findTool(Mosquitto, mosquittoCure, "mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")
}

// fetchMosquitto installs the Debian package when that is possible. Its own system service is not left running.
func fetchMosquitto(ctx context.Context, s *Set) error {
	_, missing := findMosquitto()
	if missing == nil {
		return nil
	}
	apt, err := findTool(Mosquitto, mosquittoCure, "apt-get")
	if err != nil || os.Geteuid() != 0 {
		return missing
	}
	unlock, err := lock(ctx, s.cache("apt.lock"))
	if err != nil {
		return fmt.Errorf("services: %s: %w", Mosquitto, err)
	}
	defer unlock()
	if _, err := findMosquitto(); err == nil {
		return nil // another process was faster
	}
	s.logf("%s: installing the Debian package", Mosquitto)
	install := []string{apt, "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends", "mosquitto"}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := run(ctx, s.base, env, install...); err != nil { // the lists may be missing or old
		if err := run(ctx, s.base, env, apt, "update"); err != nil {
			return fmt.Errorf("services: %s: %w", Mosquitto, err)
		}
		if err := run(ctx, s.base, env, install...); err != nil {
			return fmt.Errorf("services: %s: %w", Mosquitto, err)
		}
	}
	if systemctl, err := exec.LookPath("systemctl"); err == nil {
		disable := []string{systemctl, "disable", "mosquitto"}
		if _, err := os.Stat("/run/systemd/system"); err == nil { // systemd runs, so the service may
			disable = append(disable, "--now")
		}
		if err := run(ctx, s.base, nil, disable...); err != nil {
			return fmt.Errorf("services: %s: %w", Mosquitto, err)
		}
	}
	if _, err := os.Stat("/etc/init.d/mosquitto"); err == nil {
		return run(ctx, s.base, nil, "/etc/init.d/mosquitto", "stop")
	}
	return nil
}

func configureMosquitto(_ context.Context, s *Set, dir string) ([]string, error) {
	bin, err := findMosquitto()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	conf := []string{
		fmt.Sprintf("listener %d 127.0.0.1", s.port(basePortMQTT)),
		"persistence true",
		"persistence_location " + dir + "/",
		"autosave_interval 1",
		"user " + me.Username, // as root it would become the user mosquitto, who cannot write here
		fmt.Sprintf("max_inflight_messages %d", cmp.Or(s.opts.MosquittoInflight, 2000)),
		fmt.Sprintf("max_queued_messages %d", cmp.Or(s.opts.MosquittoQueued, 1_000_000)),
		"set_tcp_nodelay true",
		"connection_messages false",
	}
	if s.opts.MosquittoUser == "" {
		conf = append(conf, "allow_anonymous true")
	} else {
		hash, err := mosquittoHash(s.opts.MosquittoPassword)
		if err != nil {
			return nil, err
		}
		passwords := filepath.Join(dir, "passwords")
		if err := writeFile(passwords, s.opts.MosquittoUser+":"+hash+"\n"); err != nil {
			return nil, err
		}
		conf = append(conf, "allow_anonymous false", "password_file "+passwords)
	}
	file := filepath.Join(dir, "mosquitto.conf")
	return []string{bin, "-c", file}, writeFile(file, strings.Join(conf, "\n")+"\n")
}

// mosquittoHash makes the form that mosquitto_passwd writes: PBKDF2 with SHA-512.
func mosquittoHash(password string) (string, error) {
	const rounds = 101
	salt := make([]byte, 12)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key, err := pbkdf2.Key(sha512.New, password, salt, rounds, 64)
	if err != nil {
		return "", err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("$7$%d$%s$%s", rounds, b64(salt), b64(key)), nil
}

func readyMosquitto(ctx context.Context, s *Set) error { return s.dial(ctx, basePortMQTT) }
