package shim

import (
	"os"
	"runtime"
	"strconv"
)

// memoryLimit is what the Go runtime may map before it collects garbage:
// bytes. Some 6 MiB of it are the runtime's own and hardly touched.
const memoryLimit = 16 << 20

// maxProcs bounds the processors that a supervisor uses at once; each has
// caches of its own.
const maxProcs = 4

// frugal is the environment that sets the Go runtime up for a process that
// idles for most of its life and of which there may be a hundred.
//
// A start allocates less than 1 MiB in all. One cycle of the collector costs
// more than that gives back: its work buffers, span sets and workers' stacks
// stay, some 500 KiB, and sysmon would force a cycle every two minutes. So it
// runs only when a supervisor has worked for long, execs mostly. GOMAXPROCS=1
// would save memory too and make starts and execs three times slower: system
// calls that block would keep the only processor until sysmon takes it away.
// As it is set, the runtime does not follow the limits of its control group,
// which it would look for at each start.
func frugal() []string {
	return []string{"GOGC=off", "GOMEMLIMIT=" + strconv.Itoa(memoryLimit),
		"GOMAXPROCS=" + strconv.Itoa(min(maxProcs, runtime.NumCPU())), "GODEBUG=containermaxprocs=0"}
}

// pin makes the process fit to run libcontainer: it keeps the main goroutine on
// the main thread. libcontainer runs parts of
// its work on goroutines whose threads join a container's mount namespace and
// are then thrown away; Go cannot throw the main thread away, and
// /proc/self/{root,cwd,ns} of the whole process are the main thread's. It must
// be called before any goroutine is started. Programs that start supervisors
// are not pinned: each wait of their main goroutine would cost two hand-overs
// between threads.
func pin() {
	runtime.LockOSThread()
	runtime.MemProfileRate = 0
	// For libcontainer, which passes this one variable on: its child uses one
	// processor from its second step on, and threads for more would be made
	// in vain.
	os.Setenv("GOMAXPROCS", "1")
}
