// Command chserver runs a real ClickHouse server, HTTP and native protocol, out of libchdb.
//
// libchdb carries clickhouse-local, which answers SYSTEM START LISTEN with the server's own protocol handlers. One exported
// function takes its command line. The listeners live as long as the last query of that command line.
//
// The engine in this form aborts when a client of the native protocol goes away in the middle of its handshake, which a server proper
// survives. So it runs in a child process that is started again when that happens: clients see refused connections for a moment.
//
// Tables survive restarts, also after SIGKILL. The tables of the database system do not: query_log and part_log start empty.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// forever is the query that keeps the listeners alive: one row a second, nothing logged.
const forever = "SELECT sleepEachRow(1) FROM system.numbers SETTINGS max_block_size=1, log_queries=0 FORMAT Null"

func main() {
	log.SetFlags(log.Ltime)
	log.SetPrefix("chserver: ")
	lib := flag.String("lib", "", "libchdb.so (required)")
	path := flag.String("path", "", "data folder (required)")
	httpPort := flag.Int("http", 8123, "HTTP port on 127.0.0.1")
	tcpPort := flag.Int("tcp", 9000, "native protocol port on 127.0.0.1")
	engine := flag.Bool("engine", false, "be the child process that is the engine")
	config := flag.String("config", "", "server configuration: users, disks, clusters, logs; files in config.d beside it are merged")
	flag.Parse()
	if *lib == "" || *path == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if *engine {
		err = serve(*lib, *path, *config, *httpPort, *tcpPort)
	} else {
		err = supervise(*httpPort, *tcpPort)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(libFile, path, config string, httpPort, tcpPort int) error {
	// The engine keeps the definitions of its system tables in memory but their data here, and refuses to make a log table
	// over old data. Tables of users are elsewhere.
	if err := os.RemoveAll(filepath.Join(path, "data", "system")); err != nil {
		return err
	}
	lib, err := purego.Dlopen(libFile, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return err
	}
	var (
		setSignals func(int32)
		cmdline    func(int32, unsafe.Pointer) unsafe.Pointer
		failure    func(unsafe.Pointer) string
	)
	purego.RegisterLibFunc(&setSignals, lib, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&cmdline, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&failure, lib, "chdb_result_error")
	setSignals(0) // before all else: Go's runtime keeps its own handlers

	args := []string{
		"clickhouse", "--listen_host=127.0.0.1", "--path=" + path,
		fmt.Sprintf("--tcp_port=%d", tcpPort), fmt.Sprintf("--http_port=%d", httpPort),
	}
	if config != "" {
		args = append(args, "--config-file="+config)
	}
	args = append(args, "--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; "+forever)

	var stopping atomic.Bool
	go stopOnSignal(httpPort, &stopping)
	result := call(cmdline, args)
	if stopping.Load() {
		return nil
	}
	text := "no error given"
	if result != nil {
		text = cmp.Or(failure(result), text)
	}
	return fmt.Errorf("the query that keeps the listeners alive ended: %s", text)
}

// call passes the arguments as argc and argv.
func call(f func(int32, unsafe.Pointer) unsafe.Pointer, args []string) unsafe.Pointer {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]*byte, 0, len(args)+1)
	for _, a := range args {
		arg := &append([]byte(a), 0)[0]
		pin.Pin(arg)
		argv = append(argv, arg)
	}
	argv = append(argv, nil)
	return f(int32(len(args)), unsafe.Pointer(&argv[0]))
}

// stopOnSignal ends the last query on SIGTERM or SIGINT, and with it the engine in order.
func stopOnSignal(port int, stopping *atomic.Bool) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, os.Interrupt)
	log.Print("stopping on ", <-c)
	stopping.Store(true)
	if err := endLastQuery(port); err != nil {
		log.Fatal(err) // such as not listening yet: nothing to end in order
	}
}

func endLastQuery(port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	const kill = "KILL QUERY WHERE query LIKE '%sleepEachRow(1) FROM system.numbers%' AND query_id != queryID()"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", port), strings.NewReader(kill))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
