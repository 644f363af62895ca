package services

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os/user"
	"path/filepath"
	"strings"
)

// findMosquitto also looks where Debian puts it, which is not on the path of everybody.
func findMosquitto() (string, error) {
	return findTool(Mosquitto, cure("mosquitto"), "mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")
}

func fetchMosquitto(ctx context.Context, s *Set) error {
	return debian{Mosquitto, []string{"mosquitto"}, []string{"mosquitto"}, findMosquitto}.install(ctx, s)
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
	conf = append(conf, s.opts.MosquittoConf...)
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
