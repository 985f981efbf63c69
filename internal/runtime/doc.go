// Package runtime runs an OCI configuration as processes, on libcontainer. It
// is the only importer of libcontainer besides internal/reexec.
//
// It runs inside a shim, never in the embedding program. Create, Start and
// Exec fork, so they run on the pinned main goroutine only: the kernel sends
// the parent-death signal when the forking thread ends, and the main thread
// never does.
package runtime

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config describes a container to create.
type Config struct {
	StateDir string      // libcontainer's state; the container's own directory is StateDir/ID
	ID       string      // 64 hex digits
	Spec     *specs.Spec // Root.Path is set; Linux.CgroupsPath is absolute
	Seccomp  Filter      // for all processes
	Reaper   bool        // process 1 is a reaper of ours, the command its child
}

// Filter is a compiled seccomp filter; without a program it is unconfined.
type Filter struct {
	Program []byte // of struct sock_filter, host byte order
	Flags   uint   // of seccomp(2)
}

// Process is one process to start in a container.
type Process struct {
	Spec                  *specs.Process // Args, Env, Cwd, User, Capabilities ...
	Stdin, Stdout, Stderr *os.File       // the process's own; nil is /dev/null; unused with a terminal
	Console               *os.File       // with Spec.Terminal: a socket that receives the pty's master
	Long                  bool           // an exec is libcontainer's, whatever it is
}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128+n for signal n
	Signal int // 0: exited by itself
}
