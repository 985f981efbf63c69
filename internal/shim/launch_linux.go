package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/reexec"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/wire"
	"golang.org/x/sys/unix"
)

// Process launches supervisors by executing this program again, or Helper.
type Process struct {
	Helper string // program to execute; empty: this one
}

// Launch starts a supervisor and waits until its container runs. When it
// fails, or ctx ends before, no process is left; what the store says of the
// attempt is for recovery to mend.
func (l *Process) Launch(ctx context.Context, o *LaunchOptions) (*Started, error) {
	if os.Getenv(helperEnv) != "" {
		return nil, errors.New("this process was started as a helper of amphora and ran on as the program itself; it must not start containers (a fork bomb): import amphora in the program named by Options.Helper")
	}
	if !reexec.Supported {
		return nil, fault.Unsupported("this program was built without cgo, which running containers needs: build it with CGO_ENABLED=1")
	}
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	req := &Request{Hello: &hello, Op: "launch",
		Streams: Streams{o.Stdin != nil, o.Stdout != nil, o.Stderr != nil},
		Launch: &Launch{Root: o.Root.Dir, State: o.Root.State, ID: o.ID, RootID: o.Root.ID, Boot: boot, Base: o.Base,
			Owners: len(o.Owners) / 2, NetNS: o.NetNS != nil, Restarts: o.Restarts, Secrets: o.Secrets, Step: step.Armed()}}
	files := append([]*os.File{o.Alive}, o.Owners...)
	files = append(files, present([]*os.File{o.NetNS, o.Stdin, o.Stdout, o.Stderr})...)

	conn, cmd, err := l.spawn(o.Base)
	if err != nil {
		return nil, err
	}
	started, err := l.await(ctx, conn, cmd, req, files)
	if err != nil {
		conn.Close()
		cmd.Process.Kill()
		cmd.Wait()
		return nil, err
	}
	go cmd.Wait() // reaps the shim if it ends before this program does
	return started, nil
}

// spawn executes the helper with a socket as descriptor 3, in a session and a
// mount namespace of its own, with nothing else of ours.
func (l *Process) spawn(base string) (*wire.Conn, *exec.Cmd, error) {
	conn, theirs, err := wire.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	path := l.Helper
	if path == "" {
		path = "/proc/self/exe" // also when the file was replaced or deleted since
	}
	group := cgroup.ForFork(base + "/shims")
	cmd := l.command(path, theirs, group)
	err = cmd.Start()
	if group != nil {
		group.Close()
		// The group went with the last that was in it, before (ENOENT) or after
		// (ENODEV) the kernel took hold of it for the clone.
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
			cmd = l.command(path, theirs, nil)
			err = cmd.Start()
		}
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, os.ErrPermission) {
			return nil, nil, fault.Privilege("starting containers needs root (CAP_SYS_ADMIN): %w", err)
		}
		return nil, nil, fmt.Errorf("start the supervisor %s: %w", path, err)
	}
	return conn, cmd, nil
}

// command is the helper's, begun in group if there is one.
func (l *Process) command(path string, socket, group *os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path:        path,
		Args:        []string{helperName},
		Env:         slices.Concat([]string{helperEnv + "=shim"}, frugal(), raceEnv),
		Dir:         "/",
		ExtraFiles:  []*os.File{socket},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS},
	}
	if group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	return cmd
}

func (l *Process) await(ctx context.Context, conn *wire.Conn, cmd *exec.Cmd, req *Request, files []*os.File) (*Started, error) {
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	var r Reply
	step.At("launch.spawned")
	err := conn.Send(req, files...)
	step.At("launch.sent")
	if err == nil {
		_, err = conn.Receive(&r)
	}
	step.At("launch.answered")
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, l.died(req.Launch, err)
	}
	if r.Error != nil {
		// The shim mends what it began and lets go of the locks before it
		// ends: wait, so that the caller finds the truth on disk.
		cmd.Wait()
		return nil, &StartError{Code: r.Code, Err: r.Error.Unpack()}
	}
	return &Started{Run: r.Run, conn: conn}, nil
}

// died explains a supervisor that ended before it said anything.
func (l *Process) died(launch *Launch, err error) error {
	text, _ := os.ReadFile(crashFile(launch))
	first, _, _ := strings.Cut(string(text), "\n\n")
	if l.Helper != "" && first == "" {
		return fmt.Errorf("the supervisor %s ended at once: is it a program that imports amphora, such as cmd/amphora-helper? (%w)", l.Helper, err)
	}
	return fmt.Errorf("the supervisor ended before the container ran: %s (%w)", strings.TrimSpace(first), err)
}

// crashFile takes the supervisor's last words, since nobody reads its stderr.
func crashFile(l *Launch) string { return l.Root + "/containers/" + l.ID + "/crash" }
