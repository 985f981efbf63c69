package container

import (
	"fmt"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

// resources compiles the limits, with the checks that Docker makes, and notes
// what must be found in force before the container may run.
func resources(spec *Spec, f *facts, c *compiled) error {
	r := &spec.Resources
	out := &specs.LinuxResources{}
	c.cfg.OCI.Linux.Resources = out
	c.cfg.OCI.Linux.Sysctl = r.Sysctls
	limit := func(what string, value int64, format string, args ...any) {
		c.cfg.Limits = append(c.cfg.Limits, record.Limit{What: what, Value: value, Why: fmt.Sprintf(format, args...)})
	}
	if err := memory(r, f, out, limit); err != nil {
		return err
	}
	if err := cpu(r, f, out, limit); err != nil {
		return err
	}
	if r.Pids < -1 {
		return fault.Invalid("pids limit %d: give a positive number, or -1 for none", r.Pids)
	}
	if r.Pids > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
		limit("pids", r.Pids, "the limit of %d processes", r.Pids)
	}
	if r.BlkioWeight != 0 {
		if r.BlkioWeight < 10 || r.BlkioWeight > 1000 {
			return fault.Invalid("blkio weight %d: give 10 to 1000", r.BlkioWeight)
		}
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
		limit("blkio", 0, "the block I/O weight %d", r.BlkioWeight)
	}
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		return fault.Invalid("oom score adjustment %d: give -1000 to 1000", r.OOMScoreAdj)
	}
	if r.ShmSize < 0 {
		return fault.Invalid("shm size %d is negative", r.ShmSize)
	}
	if err := sysctls(spec); err != nil {
		return err
	}
	return ulimits(r.Ulimits, c.cfg.OCI.Process)
}

func memory(r *Resources, f *facts, out *specs.LinuxResources, limit func(string, int64, string, ...any)) error {
	switch {
	case r.Memory < 0 || r.MemoryReservation < 0 || r.MemorySwap < -1:
		return fault.Invalid("memory limits cannot be negative")
	case r.Memory > 0 && r.Memory < minMemory:
		return fault.Invalid("memory limit %d is below the minimum of 6 MiB (%d bytes)", r.Memory, minMemory)
	case r.MemorySwap > 0 && r.Memory == 0:
		return fault.Invalid("a limit of memory and swap needs a memory limit too")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return fault.Invalid("the limit of memory and swap (%d) is below that of memory (%d)", r.MemorySwap, r.Memory)
	case r.MemoryReservation > r.Memory && r.Memory > 0:
		return fault.Invalid("the memory reservation (%d) is above the limit (%d)", r.MemoryReservation, r.Memory)
	case r.MemorySwap != 0 && !f.host.swapLimits:
		return fault.Unsupported("this kernel does not limit swap: boot it with swapaccount=1, or leave the swap limit out")
	}
	if r.Memory == 0 && r.MemoryReservation == 0 {
		return nil
	}
	m := &specs.LinuxMemory{}
	if r.Memory > 0 {
		m.Limit = &r.Memory
		limit("memory", r.Memory, "the memory limit of %d bytes", r.Memory)
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	switch {
	case r.MemorySwap != 0:
		m.Swap = &r.MemorySwap
	case r.Memory > 0 && f.host.swapLimits:
		m.Swap = ptr(2 * r.Memory) // Docker's default
	}
	out.Memory = m
	return nil
}

func cpu(r *Resources, f *facts, out *specs.LinuxResources, limit func(string, int64, string, ...any)) error {
	if r.CPUs < 0 || r.CPUs > 0 && r.CPUs < 0.01 {
		return fault.Invalid("cpus %g: give at least 0.01", r.CPUs)
	}
	if r.CPUs > float64(f.host.cpus) {
		return fault.Invalid("cpus %g: this machine has %d", r.CPUs, f.host.cpus)
	}
	if r.CPUShares == 1 {
		return fault.Invalid("cpu shares 1: the kernel's minimum is 2")
	}
	if err := checkList("cpuset", r.CPUSet, f.host.online); err != nil {
		return err
	}
	if err := checkList("cpuset mems", r.CPUSetMems, f.host.nodes); err != nil {
		return err
	}
	if r.CPUs == 0 && r.CPUShares == 0 && r.CPUSet == "" && r.CPUSetMems == "" {
		return nil
	}
	cpu := &specs.LinuxCPU{Cpus: r.CPUSet, Mems: r.CPUSetMems}
	if r.CPUs > 0 {
		cpu.Quota, cpu.Period = ptr(int64(r.CPUs*cpuPeriod)), ptr(uint64(cpuPeriod))
		limit("cpu", 0, "the limit of %g cpus", r.CPUs)
	}
	if r.CPUShares > 0 {
		cpu.Shares = &r.CPUShares
		limit("shares", 0, "the cpu shares %d", r.CPUShares)
	}
	if r.CPUSet != "" || r.CPUSetMems != "" {
		limit("cpuset", 0, "the cpu set %q", r.CPUSet+r.CPUSetMems)
	}
	out.CPU = cpu
	return nil
}

// sysctls refuses what would change the host.
func sysctls(spec *Spec) error {
	host := len(spec.Networks) == 1 && spec.Networks[0].Network == "host"
	for key := range spec.Resources.Sysctls {
		switch {
		case strings.HasPrefix(key, "net.") && host:
			return fault.Invalid("sysctl %q would change the host's network, which this container shares", key)
		case strings.HasPrefix(key, "net."), strings.HasPrefix(key, "fs.mqueue."),
			strings.HasPrefix(key, "kernel.shm"), strings.HasPrefix(key, "kernel.msg"), key == "kernel.sem", key == "kernel.domainname":
		default:
			return fault.Invalid("sysctl %q is not confined to a container: only net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem are", key)
		}
	}
	return nil
}

var ulimitNames = []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack", "as"}

func ulimits(in []Ulimit, p *specs.Process) error {
	for _, u := range in {
		if !slices.Contains(ulimitNames, u.Name) {
			return fault.Invalid("unknown ulimit %q: use one of %s", u.Name, strings.Join(ulimitNames, ", "))
		}
		if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
			return fault.Invalid("ulimit %s: the soft limit (%d) is above the hard one (%d)", u.Name, u.Soft, u.Hard)
		}
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return nil
}

// devices lets the container use the devices it is given and the few that
// every process needs; those the runtime adds itself.
func devices(spec *Spec, f *facts, oci *specs.Spec) error {
	r := oci.Linux.Resources
	if spec.Security.Privileged {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		all, err := f.all()
		oci.Linux.Devices = all
		return err
	}
	r.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range spec.Resources.Devices {
		if strings.Trim(d.Permissions, "rwm") != "" {
			return fault.Invalid("device %s: permissions %q: use letters of rwm", d.Path, d.Permissions)
		}
		found, err := f.device(d)
		if err != nil {
			return err
		}
		access := d.Permissions
		if access == "" {
			access = "rwm"
		}
		for _, dev := range found {
			oci.Linux.Devices = append(oci.Linux.Devices, dev)
			r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: dev.Type, Major: &dev.Major, Minor: &dev.Minor, Access: access})
		}
	}
	return nil
}
