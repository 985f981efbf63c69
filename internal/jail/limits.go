package jail

import (
	"fmt"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	minMemory = 6 << 20 // bytes: below, runtimes fail to start (Docker's floor)
	// Period is the kernel's default period of CFS bandwidth in µs.
	Period = 100000
)

// Machine is what limits depend on.
type Machine struct {
	CPUs          int
	SwapLimits    bool   // memory.memsw or memory.swap exists
	Online, Nodes string // processors and nodes of memory, "0-3"; empty: unknown
}

// Memory are limits in bytes; 0: none.
type Memory struct{ Limit, Reservation, Swap int64 }

// Limits collects limits, with the checks that Docker makes, and notes what
// must be found in force before a container may run.
type Limits struct {
	Machine   Machine
	Resources *specs.LinuxResources
	Checked   []record.Limit
}

func (l *Limits) note(what string, value int64, format string, args ...any) {
	l.Checked = append(l.Checked, record.Limit{What: what, Value: value, Why: fmt.Sprintf(format, args...)})
}

// Memory limits memory and swap.
func (l *Limits) Memory(r Memory) error {
	switch {
	case r.Limit < 0 || r.Reservation < 0 || r.Swap < -1:
		return fault.Invalid("memory limits cannot be negative")
	case r.Limit > 0 && r.Limit < minMemory:
		return fault.Invalid("memory limit %d is below the minimum of 6 MiB (%d bytes)", r.Limit, minMemory)
	case r.Swap > 0 && r.Limit == 0:
		return fault.Invalid("a limit of memory and swap needs a memory limit too")
	case r.Swap > 0 && r.Swap < r.Limit:
		return fault.Invalid("the limit of memory and swap (%d) is below that of memory (%d)", r.Swap, r.Limit)
	case r.Reservation > r.Limit && r.Limit > 0:
		return fault.Invalid("the memory reservation (%d) is above the limit (%d)", r.Reservation, r.Limit)
	case r.Swap != 0 && !l.Machine.SwapLimits:
		return fault.Unsupported("this kernel does not limit swap: boot it with swapaccount=1, or leave the swap limit out")
	}
	if r.Limit == 0 && r.Reservation == 0 {
		return nil
	}
	m := &specs.LinuxMemory{}
	if r.Limit > 0 {
		m.Limit = &r.Limit
		l.note("memory", r.Limit, "the memory limit of %d bytes", r.Limit)
	}
	if r.Reservation > 0 {
		m.Reservation = &r.Reservation
	}
	switch {
	case r.Swap != 0:
		m.Swap = &r.Swap
	case r.Limit > 0 && l.Machine.SwapLimits:
		twice := 2 * r.Limit // Docker's default
		m.Swap = &twice
	}
	l.Resources.Memory = m
	return nil
}

// CPU is a share of the processors.
type CPU struct {
	Shares     uint64 // 0: the default
	Quota      int64  // µs in each period; 0: no limit
	Period     uint64 // µs; 0: Period
	CPUs, Mems string // "0-3"; empty: all
	Asked      string // what Quota is, for errors
}

// CPU limits the time and the choice of processors.
func (l *Limits) CPU(r CPU) error {
	if r.Shares == 1 {
		return fault.Invalid("cpu shares 1: the kernel's minimum is 2")
	}
	if err := CheckList("cpuset", r.CPUs, l.Machine.Online); err != nil {
		return err
	}
	if err := CheckList("cpuset mems", r.Mems, l.Machine.Nodes); err != nil {
		return err
	}
	if r.Quota == 0 && r.Shares == 0 && r.CPUs == "" && r.Mems == "" {
		return nil
	}
	cpu := &specs.LinuxCPU{Cpus: r.CPUs, Mems: r.Mems}
	if r.Quota > 0 {
		if r.Period == 0 {
			r.Period = Period
		}
		cpu.Quota, cpu.Period = &r.Quota, &r.Period
		l.note("cpu", 0, "%s", r.Asked)
	}
	if r.Shares > 0 {
		cpu.Shares = &r.Shares
		l.note("shares", 0, "the cpu shares %d", r.Shares)
	}
	if r.CPUs != "" || r.Mems != "" {
		l.note("cpuset", 0, "the cpu set %q", r.CPUs+r.Mems)
	}
	l.Resources.CPU = cpu
	return nil
}

// Pids limits the number of processes; -1 and 0: no limit.
func (l *Limits) Pids(n int64) error {
	if n < -1 {
		return fault.Invalid("pids limit %d: give a positive number, or -1 for none", n)
	}
	if n > 0 {
		l.Resources.Pids = &specs.LinuxPids{Limit: &n}
		l.note("pids", n, "the limit of %d processes", n)
	}
	return nil
}

// Blkio sets the weight of block I/O; 0: the default.
func (l *Limits) Blkio(weight uint16) error {
	if weight == 0 {
		return nil
	}
	if weight < 10 || weight > 1000 {
		return fault.Invalid("blkio weight %d: give 10 to 1000", weight)
	}
	l.Resources.BlockIO = &specs.LinuxBlockIO{Weight: &weight}
	l.note("blkio", 0, "the block I/O weight %d", weight)
	return nil
}

var ulimitNames = []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack", "as"}

// Ulimit adds a limit of a process, as setrlimit names it without RLIMIT_, in
// lower case. -1 is no limit.
func Ulimit(p *specs.Process, name string, soft, hard int64) error {
	if !slices.Contains(ulimitNames, name) {
		return fault.Invalid("unknown ulimit %q: use one of %s", name, strings.Join(ulimitNames, ", "))
	}
	if hard != -1 && (soft == -1 || soft > hard) {
		return fault.Invalid("ulimit %s: the soft limit (%d) is above the hard one (%d)", name, soft, hard)
	}
	p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(soft), Hard: uint64(hard)})
	return nil
}
