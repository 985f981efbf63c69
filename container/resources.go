package container

import (
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// resources compiles the limits, with the checks that Docker makes, and notes
// what must be found in force before the container may run.
func resources(spec *Spec, f *facts, c *compiled) error {
	r := &spec.Resources
	out := &specs.LinuxResources{}
	c.cfg.OCI.Linux.Resources = out
	c.cfg.OCI.Linux.Sysctl = r.Sysctls
	l := &jail.Limits{Machine: jail.Machine{CPUs: f.host.cpus, SwapLimits: f.host.swapLimits, Online: f.host.online, Nodes: f.host.nodes}, Resources: out}
	if err := l.Memory(jail.Memory{Limit: r.Memory, Reservation: r.MemoryReservation, Swap: r.MemorySwap}); err != nil {
		return err
	}
	if err := cpu(r, l); err != nil {
		return err
	}
	if err := l.Pids(r.Pids); err != nil {
		return err
	}
	if err := l.Blkio(r.BlkioWeight); err != nil {
		return err
	}
	c.cfg.Limits = append(c.cfg.Limits, l.Checked...)
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		return fault.Invalid("oom score adjustment %d: give -1000 to 1000", r.OOMScoreAdj)
	}
	if r.ShmSize < 0 {
		return fault.Invalid("shm size %d is negative", r.ShmSize)
	}
	if err := sysctls(spec); err != nil {
		return err
	}
	for _, u := range r.Ulimits {
		if err := jail.Ulimit(c.cfg.OCI.Process, u.Name, u.Soft, u.Hard); err != nil {
			return err
		}
	}
	return nil
}

func cpu(r *Resources, l *jail.Limits) error {
	if r.CPUs < 0 || r.CPUs > 0 && r.CPUs < 0.01 {
		return fault.Invalid("cpus %g: give at least 0.01", r.CPUs)
	}
	if r.CPUs > float64(l.Machine.CPUs) {
		return fault.Invalid("cpus %g: this machine has %d", r.CPUs, l.Machine.CPUs)
	}
	return l.CPU(jail.CPU{Shares: r.CPUShares, Quota: int64(r.CPUs * jail.Period), CPUs: r.CPUSet, Mems: r.CPUSetMems,
		Asked: fmt.Sprintf("the limit of %g cpus", r.CPUs)})
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

// devices lets the container use the devices it is given and the few that
// every process needs; those the runtime adds itself.
func devices(spec *Spec, f *facts, oci *specs.Spec) error {
	r := oci.Linux.Resources
	if spec.Security.Privileged {
		all, err := f.all()
		jail.AllDevices(oci, all)
		return err
	}
	jail.Devices(oci)
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
