// Package reexec hands a re-executed copy of this program over to
// libcontainer's init, before main and before most package inits.
//
// It imports libcontainer, nsenter and seccomp, and nothing else of amphora:
// the package inits of what it imports are paid at every container start and
// every exec.
//
// libcontainer starts a container's process by running /proc/self/exe with
// argument "init". The child is recognised by argument, environment and
// inherited descriptor together, since a user's program may well have an
// "init" command of its own.
//
// # Seccomp without libseccomp
//
// libcontainer warns of capabilities it does not know at the very point where
// runc installs its filter: as root, on the main thread, before capabilities
// are dropped. A made-up capability ([HookCapability]) in the process's sets
// makes it warn, a logrus hook reads the compiled filter from descriptor 3
// and installs it. The last message before execve runs the hook again: if no
// filter was installed by then the process ends with status 255 instead of
// running unconfined. Orders without a filter mean unconfined by request.
//
// # Control groups
//
// On cgroup v1 the process joins its control groups before all else, in C, and
// the hook refuses to go on if it has not.
package reexec

// HookCapability is added to every capability set of every process.
const HookCapability = "AMPHORA_SECCOMP"

// FilterFD is the descriptor on which a process finds its [Orders].
const FilterFD = 3

// logLevel is the log level libcontainer's init must run at (logrus debug):
// the messages that the hook waits for are debug messages.
const logLevel = "5"

// Messages of libcontainer v1.5.2 at which the hook acts. A test checks that
// the version in use still has them.
const (
	MessageInit  = "init: about to wait on exec fifo"
	MessageSetns = "setns_init: about to exec"
)
