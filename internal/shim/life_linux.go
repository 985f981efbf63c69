package shim

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/runtime"
	"github.com/amphora-go/amphora/internal/step"
	"golang.org/x/sys/unix"
)

// Docker's back-off of restarts: doubling from 100 ms to one minute, from the
// beginning again after a run of 10 s (moby restartmanager).
const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = time.Minute
	backoffReset = 10 * time.Second
	killLimit    = 10 * time.Second // for processes in uninterruptible sleep to die
)

// live follows the container from its first process to its end.
func (s *shim) live() {
	backoff := backoffFirst
	for {
		exit := s.oneRun()
		if !s.wants(exit) {
			unwired := s.unwiring()
			s.recordExit(exit)
			s.end(exit, unwired)
			return
		}
		if exit.Finished.Sub(exit.Started) > backoffReset {
			backoff = backoffFirst
		}
		if last := s.again(exit, backoff); last != nil {
			s.end(last, s.unwiring())
			return
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// oneRun waits for the first process to end and its output with it.
func (s *shim) oneRun() *record.Exit {
	how := s.init.Wait()
	group := s.c.Cgroup
	if !s.privatePids() {
		cgroup.Kill(group, killLimit)
	}
	s.stdio.drain(func() bool {
		pids, err := cgroup.Pids(group)
		return err == nil && len(pids) == 0
	}, s.stopping)
	s.log.Flush(time.Now()) // readers stop once the exit is recorded
	step.At("exit.drained")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	close(s.runOver)
	exit := &record.Exit{Code: how.Code, Signal: how.Signal, Started: s.run.Started, Finished: time.Now().UTC(),
		OOMKilled: how.Code == 128+int(syscall.SIGKILL) && cgroup.OOMKills(group) > 0, Restarts: s.run.Restarts}
	return exit
}

func (s *shim) privatePids() bool {
	for _, ns := range s.cfg.OCI.Linux.Namespaces {
		if ns.Type == "pid" {
			return ns.Path == ""
		}
	}
	return false
}

// wants says whether the policy demands another run.
func (s *shim) wants(exit *record.Exit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop {
		return false
	}
	if s.forced {
		s.forced = false
		return true
	}
	switch p := s.c.Restart; p.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return exit.Code != 0 && (p.Max == 0 || s.run.Restarts < p.Max)
	}
	return false
}

func (s *shim) recordExit(exit *record.Exit) {
	attrs, c := map[string]string{"exitCode": fmt.Sprint(exit.Code)}, s.current()
	if exit.OOMKilled {
		s.root.LogEvent(context.Background(), c, "oom", nil)
	}
	if exit.Signal != 0 {
		attrs["signal"] = fmt.Sprint(exit.Signal)
	}
	err := s.root.Exited(context.Background(), c, exit, attrs)
	if err != nil {
		// A full disk must not keep the container from ending: whoever comes
		// next finds the run without a supervisor and recovers it.
		exit.Error = err.Error()
	}
	s.unrecorded = err != nil
}

// again runs the container once more after a pause. It returns what was the
// last exit if it does not run then: a caller stopped it, or it failed to
// start. That exit is recorded, the run is not ended yet.
func (s *shim) again(exit *record.Exit, pause time.Duration) *record.Exit {
	exit.Again = true
	s.wires.pause()
	s.recordExit(exit)
	exit.Again = false
	if err := s.do(s.box.Destroy); err != nil {
		exit.Error = err.Error()
		return exit
	}
	s.mu.Lock()
	s.run = &record.Run{Boot: s.launch.Boot, Status: record.Restarting, Shim: s.run.Shim, ShimStart: s.run.ShimStart, Restarts: s.run.Restarts + 1}
	s.box, s.init = nil, nil
	run := *s.run
	s.mu.Unlock()
	if err := s.root.Begin(s.c, &run); err != nil {
		exit.Error = err.Error()
		return exit
	}
	step.At("restart.begun")
	select {
	case <-s.stopping:
		s.root.Failed(s.c, exit)
		return exit
	case <-time.After(pause):
	}
	s.mu.Lock()
	s.run.Status = record.Running
	s.mu.Unlock()
	hold, err := flock.Acquire(context.Background(), s.root.GroupLock(), flock.Shared)
	if err == nil {
		err = s.do(func() error { return s.startInit(nil) })
		hold.Release()
	}
	if err != nil {
		return s.failedAgain(err)
	}
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	if stop { // who asked found no process to signal
		s.kill()
	}
	return nil
}

// failedAgain records why a restart did not start.
func (s *shim) failedAgain(err error) *record.Exit {
	s.mu.Lock()
	run, box := *s.run, s.box
	s.box = nil
	s.mu.Unlock()
	if box != nil {
		s.do(box.Destroy)
	}
	exit := &record.Exit{Code: exitCode(err), Error: err.Error(), Started: run.Started, Finished: time.Now().UTC(), Restarts: run.Restarts}
	if run.Seq > 0 { // the start was logged: its end is too
		s.recordExit(exit)
	} else {
		s.root.Failed(s.c, exit)
	}
	return exit
}

// unwiring begins to give ports and addresses back while the exit is recorded.
func (s *shim) unwiring() <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.unwire() }()
	return done
}

// end tells everybody of the last exit, and leaves nothing behind. Who is told
// finds the container's ports free. What could not be given back stays in the
// run's record: recovery goes on with it.
func (s *shim) end(exit *record.Exit, unwired <-chan error) {
	if err := <-unwired; err != nil {
		s.unrecorded = true
	}
	s.unmountBuild()
	s.mu.Lock()
	s.exit = exit
	s.mu.Unlock()
	s.log.Close()
	s.socket.Close()
	os.Remove(s.root.Socket(s.c.ID))
	close(s.ended)
	if s.box != nil {
		s.do(s.box.Destroy)
	}
	step.At("exit.destroyed")
	if !s.unrecorded {
		s.root.EndRun(s.c.ID)
	}
	step.At("exit.ended")
	if s.autoRemove() {
		if empty, err := s.remove(); err == nil {
			close(s.removed)
			empty()
			s.leave()
			s.quit()
			return
		}
	}
	close(s.removed)
	s.leave()
	s.quit()
}

// leave takes away what the networks have on the host: cables that are still
// there, which takes the kernel many milliseconds, and all of it if this was the
// last container of a program that is gone. Nobody waits for it.
func (s *shim) leave() {
	s.cut()
	if s.wires != nil && s.c.Owned {
		s.wires.store.Idle(context.Background()) // what stays goes with a later one
	}
}

// quit ends the process once everybody who waited was answered.
func (s *shim) quit() {
	done := make(chan struct{})
	go func() { s.answers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Second): // a client that does not read
	}
	close(s.finished)
}

func (s *shim) autoRemove() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.AutoRemove
}

// remove takes the container out of the store, and its anonymous volumes.
func (s *shim) remove() (func() error, error) {
	ctx := context.Background()
	l, err := s.root.Lock(ctx, s.c.ID)
	if err != nil {
		return nil, err
	}
	defer l.Release()
	c, err := s.root.Load(s.c.ID) // its name may have changed
	if err != nil {
		return nil, err
	}
	c.AutoRemove = s.c.AutoRemove
	return recovery.Remove(ctx, s.root, c, true)
}

// stopContainer asks the container to end, kills it after the grace time, and
// keeps policies from starting it again. The timer is ours: the caller may go.
func (s *shim) stopContainer(sig int, grace time.Duration, byCaller bool) {
	s.mu.Lock()
	if !s.stop {
		s.stop = true
		close(s.stopping)
	}
	if sig == 0 {
		sig = s.c.Stop.Signal
	}
	if grace == 0 {
		grace = s.c.Stop.Timeout
	}
	running := s.init
	s.mu.Unlock()
	if byCaller {
		s.markStopped()
	}
	if running == nil {
		return // between two runs: again sees stop
	}
	step.At("stop.marked")
	running.Signal(syscall.Signal(sig))
	s.thaw()
	if grace < 0 {
		return
	}
	select {
	case <-s.ended:
	case <-time.After(grace):
		s.kill()
	}
}

// markStopped remembers over reboots that a caller stopped the container.
func (s *shim) markStopped() {
	s.mu.Lock()
	policy := s.c.Restart.Policy
	s.mu.Unlock()
	if policy == "" || policy == "no" {
		return
	}
	l, err := s.root.Lock(context.Background(), s.c.ID)
	if err != nil {
		return
	}
	defer l.Release()
	if c, err := s.root.Load(s.c.ID); err == nil {
		c.Stopped = true
		s.root.SaveQuietly(c)
	}
}

// kill ends every process of the container now.
func (s *shim) kill() {
	s.mu.Lock()
	if !s.stop {
		s.stop = true
		close(s.stopping)
	}
	running := s.init
	s.mu.Unlock()
	if running != nil {
		running.Signal(unix.SIGKILL)
	}
	s.thaw()
	if !s.privatePids() {
		cgroup.Kill(s.c.Cgroup, killLimit)
	}
}

// thaw lets a paused container feel its signal.
func (s *shim) thaw() {
	s.mu.Lock()
	paused, held := s.run.Status == record.Paused, s.holds > 0
	s.mu.Unlock()
	if paused {
		s.resume()
	}
	if held {
		cgroup.Freeze(s.c.Cgroup, false)
	}
}

func (s *shim) pause() error {
	return s.freeze(record.Running, record.Paused, "pause", (*runtime.Container).Pause)
}

func (s *shim) resume() error {
	return s.freeze(record.Paused, record.Running, "unpause", func(b *runtime.Container) error {
		if s.holds > 0 {
			return nil // they go on when their files are copied
		}
		return b.Resume()
	})
}

func (s *shim) freeze(from, to record.Status, action string, f func(*runtime.Container) error) error {
	return s.do(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.box == nil || s.over {
			return fault.ErrNotRunning // nothing may be logged of a run after its exit
		}
		if s.run.Status != from {
			return stateError(s.run.Status)
		}
		if err := f(s.box); err != nil {
			return err
		}
		if to == record.Paused {
			s.frozen++
		}
		step.At(action + ".done")
		return s.root.SetStatus(context.Background(), s.current(), s.run, to, action)
	})
}
