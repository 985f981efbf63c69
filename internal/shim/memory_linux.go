package shim

import (
	"runtime"
	"runtime/debug"
)

// memoryLimit is what the Go runtime may map before it collects garbage:
// bytes. Some 6 MiB of it are the runtime's own and hardly touched.
const memoryLimit = 16 << 20

// frugal sets the runtime up for a process that idles for most of its life
// and of which there may be a hundred.
//
// A start allocates less than 1 MiB in all. One cycle of the collector costs
// more than that gives back: its work buffers, span sets and workers' stacks
// stay, some 500 KiB, and sysmon would force a cycle every two minutes. So it
// runs only when a supervisor has worked for long, execs mostly. GOMAXPROCS=1
// would save memory too and make starts and execs three times slower: system
// calls that block would keep the only processor until sysmon takes it away.
func frugal() {
	runtime.MemProfileRate = 0
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
}

// pin keeps the main goroutine on the main thread. libcontainer runs parts of
// its work on goroutines whose threads join a container's mount namespace and
// are then thrown away; Go cannot throw the main thread away, and
// /proc/self/{root,cwd,ns} of the whole process are the main thread's. It must
// be called before any goroutine is started. Programs that start supervisors
// are not pinned: each wait of their main goroutine would cost two hand-overs
// between threads.
func pin() { runtime.LockOSThread() }
