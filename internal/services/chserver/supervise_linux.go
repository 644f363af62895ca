package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// supervise runs the engine as a child that ends with this process, however that ends, and starts it again when it aborts.
func supervise(ports ...int) error {
	runtime.LockOSThread() // the child ends with the thread that started it
	var child atomic.Pointer[os.Process]
	var stopping atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		s := <-signals
		stopping.Store(true)
		if p := child.Load(); p != nil {
			_ = p.Signal(s)
		}
	}()
	for {
		if err := awaitFree(ports); err != nil {
			return err
		}
		cmd := exec.CommandContext(context.Background(), "/proc/self/exe", append([]string{"-engine"}, os.Args[1:]...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		child.Store(cmd.Process)
		if stopping.Load() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		err := cmd.Wait()
		if stopping.Load() {
			return err
		}
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || !status.Signaled() || time.Since(began) < time.Second {
			return fmt.Errorf("the engine ended after %v: %w", time.Since(began).Round(time.Millisecond), err)
		}
		log.Printf("the engine ended (%v), starting it again", status.Signal())
	}
}

// awaitFree waits until the ports are free: an engine that was killed may take a moment to let go of them.
func awaitFree(ports []int) error {
	var last error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		last = nil
		for _, p := range ports {
			l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				last = err
				break
			}
			_ = l.Close()
		}
		if last == nil {
			return nil
		}
	}
	return last
}
