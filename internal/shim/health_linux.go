package shim

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"golang.org/x/sys/unix"
)

// What is kept of probes, as Docker does (moby daemon/health.go).
const (
	probesKept   = 5
	probeOutput  = 4 << 10
	probeTooLong = "the health check took longer than %v"
)

// watchHealth probes the container until its run is over.
func (s *shim) watchHealth(over <-chan struct{}) {
	h, started := s.cfg.Health, time.Now()
	status, log := record.HealthStarting, new(record.HealthLog)
	os.Remove(s.root.Path(s.c.ID, "health.json")) // of an earlier run
	for {
		early := status == record.HealthStarting && time.Since(started) < h.StartPeriod
		pause := h.Interval
		if early {
			pause = h.StartInterval
		}
		select {
		case <-over:
			return
		case <-time.After(pause):
		}
		before, frozen := s.freezes()
		if frozen {
			continue // it cannot answer
		}
		p := s.probe(h)
		if after, _ := s.freezes(); p.Code != 0 && after != before {
			continue // nor could it
		}
		select {
		case <-over: // it ended under the probe
			return
		default:
		}
		next := judgeHealth(h, status, log, p, early)
		s.root.SaveHealth(s.c.ID, log) // the next one will do as well
		if next == status {
			continue
		}
		if s.setHealth(next) {
			status = next
			step.At("health.recorded")
			if status == record.HealthUnhealthy {
				s.unhealthy(h.OnUnhealthy)
			}
		}
	}
}

// freezes says how often the container's processes were made to stand still,
// by a pause or while their files are copied, and whether they do now.
func (s *shim) freezes() (n int, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen, s.run.Status != record.Running || s.holds > 0
}

// judgeHealth adds a probe to the log and says what follows from it.
func judgeHealth(h *record.Health, status string, log *record.HealthLog, p record.Probe, early bool) string {
	log.Probes = append(log.Probes, p)
	if n := len(log.Probes); n > probesKept {
		log.Probes = log.Probes[n-probesKept:]
	}
	switch {
	case p.Code == 0:
		log.Failing = 0
		return record.HealthHealthy
	case !early:
		log.Failing++
	}
	if log.Failing >= h.Retries {
		return record.HealthUnhealthy
	}
	return status
}

func (s *shim) setHealth(status string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	return s.root.SetHealth(context.Background(), s.current(), s.run, status) == nil
}

// unhealthy does what the check demands.
func (s *shim) unhealthy(action string) {
	s.mu.Lock()
	running, over := s.init, s.runOver
	if s.over || running == nil {
		s.mu.Unlock()
		return // it ended by itself, and its policy has judged that
	}
	s.forced = s.forced || action == "restart"
	s.mu.Unlock()
	switch action {
	case "stop":
		go s.stopContainer(0, 0, true)
	case "kill":
		running.Signal(syscall.SIGKILL)
	case "restart":
		running.Signal(syscall.Signal(s.c.Stop.Signal))
		go func() {
			if s.c.Stop.Timeout < 0 {
				return
			}
			select {
			case <-over:
			case <-time.After(s.c.Stop.Timeout):
				running.Signal(syscall.SIGKILL)
			}
		}()
	}
}

// probe does one check.
func (s *shim) probe(h *record.Health) record.Probe {
	p := record.Probe{Start: time.Now().UTC()}
	var err error
	switch {
	case len(h.Command) > 0:
		p.Code, p.Output, err = s.probeExec(h)
	case h.TCP != "":
		var conn net.Conn
		if conn, err = s.dialContainer(h.TCP, h.Timeout); err == nil {
			conn.Close()
		}
	default:
		p.Output, err = s.probeHTTP(h)
	}
	if err != nil {
		p.Code, p.Output = -1, err.Error()
	}
	p.Output, p.End = p.Output[:min(len(p.Output), probeOutput)], time.Now().UTC()
	return p
}

// probeExec runs the command, with its output in one pipe.
func (s *shim) probeExec(h *record.Health) (int, string, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return -1, "", err
	}
	defer out.Close()
	fd, err := unix.FcntlInt(in.Fd(), unix.F_DUPFD_CLOEXEC, 0) // at once: an exec beside it must not inherit it
	if err != nil {
		in.Close()
		return -1, "", os.NewSyscallError("dup", err)
	}
	running, _, err := s.exec(&Exec{Args: h.Command}, []*os.File{nil, in, os.NewFile(uintptr(fd), "pipe")})
	if err != nil {
		return -1, "", err
	}
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(out, probeOutput))
		said <- string(b)
		io.Copy(io.Discard, out)
	}()
	var late atomic.Bool
	timer := time.AfterFunc(h.Timeout, func() { late.Store(true); running.Signal(syscall.SIGKILL) })
	how := running.Wait()
	if timer.Stop(); late.Load() {
		return -1, "", fmt.Errorf(probeTooLong, h.Timeout)
	}
	select {
	case text := <-said:
		return how.Code, text, nil
	case <-time.After(100 * time.Millisecond): // a child of it has the pipe
		return how.Code, "", nil
	}
}

// dialContainer connects from inside the container's network.
func (s *shim) dialContainer(address string, limit time.Duration) (net.Conn, error) {
	ns, err := s.openInit("ns/net")
	if err != nil {
		return nil, err
	}
	defer ns[0].Close()
	files, err := dialWithin(ns[0], "tcp", address, limit)
	if err != nil {
		return nil, err
	}
	defer files[0].Close()
	return net.FileConn(files[0])
}

// probeHTTP asks by hand: net/http would be in every supervisor.
func (s *shim) probeHTTP(h *record.Health) (string, error) {
	deadline := time.Now().Add(h.Timeout)
	conn, err := s.dialContainer(h.HTTP, h.Timeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: amphora-health\r\nAccept: */*\r\nConnection: close\r\n\r\n", h.Path, h.HTTP); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, probeOutput)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	line = strings.TrimSpace(line)
	var code int
	if f := strings.Fields(line); len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/") {
		return "", fmt.Errorf("it answered %q, which is no HTTP", line)
	} else if _, err := fmt.Sscan(f[1], &code); err != nil || code < 200 || code > 399 {
		return "", fmt.Errorf("it answered %s", line)
	}
	return line, nil
}
