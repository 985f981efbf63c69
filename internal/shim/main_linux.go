package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/runtime"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/wire"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	_ "github.com/amphora-go/amphora/internal/reexec" // its init() takes over init children, before ours
)

// How a helper recognises itself: argument, environment and descriptor 3
// together. A child that has the environment but is not taken over would run
// the embedding program again; Launch refuses to work there.
const (
	helperName = "amphora-shim"
	helperEnv  = "AMPHORA_HELPER"
	controlFD  = 3
)

func init() {
	if len(os.Args) != 1 || os.Args[0] != helperName || os.Getenv(helperEnv) != "shim" {
		return
	}
	f := os.NewFile(controlFD, "control")
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeSocket == 0 {
		return
	}
	unix.CloseOnExec(controlFD)
	os.Exit(Main(f))
}

// shim is one running supervisor. Fields without a lock are set before the
// socket is served and not changed after.
type shim struct {
	launch  Launch
	pipes   Streams    // that came with the launch
	control *wire.Conn // to the program that launched us; nil once it is gone
	root    *record.Root
	c       *record.Container
	cfg     *record.Config
	alive   *flock.Lock
	netns   *os.File // joined, or that of wires; nil: one that libcontainer makes, or the host's
	wires   *wires   // nil: no networks of its own
	socket  *wire.Listener
	log     logWriter
	rootfs  string
	mounted []string // mount points of a build's command, in order

	unrecorded bool // the last exit could not be written: recovery will; for live's goroutine only

	calls chan func() // run on the main goroutine, where libcontainer forks

	mu      sync.Mutex // guards what follows
	run     *record.Run
	box     *runtime.Container
	init    *runtime.Running
	over    bool          // the last run of init has ended
	runOver chan struct{} // closed then
	forced  bool          // the next end is followed by another run, whatever the policy
	stdio   *stdio
	exit    *record.Exit
	stop    bool // a caller asked it to stop: policies do not restart it
	owners  int
	holds   int                      // clients for which its processes are frozen, status or not
	frozen  int                      // how often they were, for one client or by a pause
	caps    *specs.LinuxCapabilities // as compiled, for execs
	ownHome bool                     // HOME is set in the container's own environment

	stopping chan struct{}  // closed with stop
	ended    chan struct{}  // closed when the container has ended for good
	removed  chan struct{}  // closed after it was removed, or will not be
	finished chan struct{}  // closed when this process may end
	answers  sync.WaitGroup // clients that wait for a last word
}

// Main is the shim's main function. control is the socket to the launcher.
func Main(control *os.File) int {
	pin()
	logrus.SetOutput(io.Discard)
	unix.Prctl(unix.PR_SET_NAME, uintptr(nameBytes(helperName)), 0, 0, 0)
	conn, err := wire.FromFile(control)
	if err != nil {
		return 1
	}
	s := &shim{control: conn, calls: make(chan func()),
		stopping: make(chan struct{}), ended: make(chan struct{}), removed: make(chan struct{}), finished: make(chan struct{})}
	files, err := s.receive()
	if err != nil {
		conn.Send(Reply{Error: wire.Pack(err), Code: 125})
		return 1
	}
	if err := s.start(files); err != nil {
		conn.Send(Reply{Error: wire.Pack(err), Code: exitCode(err)})
		return 1
	}
	for {
		select {
		case f := <-s.calls:
			f()
		case <-s.finished:
			return 0
		}
	}
}

// receive reads the launch request and makes this process a supervisor.
func (s *shim) receive() ([]*os.File, error) {
	var req Request
	files, err := s.control.Receive(&req)
	if err != nil {
		return nil, err
	}
	if req.Hello == nil || req.Launch == nil || len(files) == 0 {
		return nil, errors.New("the first message is no launch request")
	}
	if err := req.Hello.Check(); err != nil {
		return nil, err
	}
	s.launch, s.pipes = *req.Launch, req.Streams
	if s.launch.Step != nil {
		step.Arm(*s.launch.Step)
	}
	if f, err := os.Create(crashFile(&s.launch)); err == nil {
		debug.SetCrashOutput(f, debug.CrashOptions{})
		f.Close()
	}
	step.At("shim.launched")
	s.alive = flock.Adopt(files[0])
	s.root = &record.Root{Dir: s.launch.Root, State: s.launch.State, ID: s.launch.RootID,
		Log: journal.Open(filepath.Join(s.launch.Root, "journal"))}
	if s.c, err = s.root.Load(s.launch.ID); err != nil {
		return nil, err
	}
	if s.cfg, err = s.root.LoadConfig(s.launch.ID); err != nil {
		return nil, err
	}
	s.caps = s.cfg.OCI.Process.Capabilities
	s.ownHome = slices.ContainsFunc(s.cfg.OCI.Process.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") })
	return files[1:], s.become()
}

// become sets what a supervisor must have and its launcher may not.
func (s *shim) become() error {
	unix.Umask(0o022)
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	if err := cgroup.Enter(s.launch.Base + "/shims"); err != nil {
		return fmt.Errorf("enter the supervisors' control group: %w", err)
	}
	// Better that the kernel kills a container than its supervisor. Not
	// permitted without CAP_SYS_RESOURCE; then both are as likely.
	os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0)
	// Caught and dropped, not ignored: processes of the container would inherit
	// that, also from a launcher that ignores them, and ctrl-c would do nothing.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	return nil
}

// do runs f on the main goroutine and waits for it.
func (s *shim) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case s.calls <- func() { done <- f() }:
		return <-done
	case <-s.finished:
		return errEnded
	}
}

// start takes the files of the launch request, starts the container and
// serves. After a failure nothing of the start is left.
func (s *shim) start(files []*os.File) error {
	owners, files, err := s.takeOwners(files)
	if err != nil {
		return err
	}
	if s.launch.NetNS {
		s.netns, files = files[0], files[1:]
	}
	if files, err = clientPipes(s.pipes, files); err != nil {
		return err
	}
	st, err := proc.ReadStat(os.Getpid())
	if err != nil {
		return err
	}
	s.run = &record.Run{Boot: s.launch.Boot, Status: record.Running, Shim: os.Getpid(), ShimStart: st.StartTime, Restarts: s.launch.Restarts}
	if err := s.root.Begin(s.c, s.run); err != nil {
		return err
	}
	step.At("start.begun")
	if err := s.up(files); err != nil {
		s.failed(err)
		return err
	}
	step.At("start.running")
	s.control.Send(Reply{Run: s.run})
	go s.serve()
	s.answers.Add(1)
	go s.launcher()
	go s.terminate()
	for _, o := range owners {
		go s.watchOwner(o)
	}
	go s.live()
	return nil
}

// up reserves ports, mounts the root, opens log and socket, and starts the
// first process. Networks are attached meanwhile.
func (s *shim) up(files []*os.File) error {
	if err := s.wire(); err != nil {
		return err
	}
	attached := make(chan error, 1)
	go func() { attached <- s.attachAll() }()
	err := s.open()
	if err = errors.Join(err, <-attached); err != nil {
		return err
	}
	return s.startInit(files)
}

func (s *shim) open() error {
	if err := s.mount(); err != nil {
		return err
	}
	step.At("start.mounted")
	var err error
	if s.log, err = s.openLog(); err != nil {
		return err
	}
	if s.socket, err = wire.Listen(s.root.Socket(s.c.ID)); err != nil {
		return fmt.Errorf("listen for programs: %w", err)
	}
	return nil
}

// failed records why the start failed and undoes it.
func (s *shim) failed(err error) {
	if s.box != nil {
		s.box.Destroy()
	}
	if s.socket != nil {
		s.socket.Close()
		os.Remove(s.root.Socket(s.c.ID))
	}
	if s.log != nil {
		s.log.Close()
	}
	if uerr := s.unwire(); uerr != nil {
		err = errors.Join(err, uerr)
	}
	s.unmountBuild()
	exit := &record.Exit{Code: exitCode(err), Error: err.Error(), Finished: time.Now().UTC()}
	if s.run.Seq > 0 { // "start" was logged already: its end is too
		if s.root.Exited(context.Background(), s.c, exit, map[string]string{"exitCode": fmt.Sprint(exit.Code)}) == nil {
			s.root.EndRun(s.c.ID)
		}
	} else {
		s.root.Failed(s.c, exit)
	}
	if s.c.AutoRemove {
		if empty, err := s.remove(); err == nil {
			empty()
		}
	}
}

// terminate stops the container when the machine shuts down.
func (s *shim) terminate() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	s.stopContainer(0, 0, false)
}

// launcher tells the program that launched us how it went on, until that
// program goes away.
func (s *shim) launcher() {
	defer s.answers.Done()
	defer s.control.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var req Request
			files, err := s.control.Receive(&req)
			if err != nil {
				return
			}
			wire.CloseAll(files) // nothing is asked here: programs connect to the socket
		}
	}()
	select {
	case <-gone:
		return
	case <-s.ended:
	}
	s.mu.Lock()
	exit := s.exit
	s.mu.Unlock()
	s.control.Send(Reply{Exit: exit})
	<-s.removed
	s.control.Send(Reply{Removed: true})
}
