//go:build cgo

package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nsexec"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// direct is what the short way of an exec (internal/nsexec) needs of a
// container. Without one every exec goes through libcontainer.
type direct struct {
	init       *os.File // pidfd of process 1
	namespaces int
	group      string // directory on cgroup v2
	keyring    string
	exposed    bool // a process inside may have had what onlookers have
	trampoline *os.File
}

// onlookers are the capabilities with which a process could look into another
// one, undumpable or not. Where one may have them nothing of this program may
// be inside, be it for the moment before execve.
var onlookers = []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_SYS_RAWIO", "CAP_SYS_MODULE"}

// takeDirect judges the container once its init is there. What it refuses is
// rare or needs libcontainer's care.
func (c *Container) takeDirect(pid int) *direct {
	conf := c.conf
	plain := !conf.RootlessEUID && !conf.RootlessCgroups && len(conf.UIDMappings) == 0 && !conf.Namespaces.Contains(configs.NEWUSER) &&
		conf.ProcessLabel == "" && unconfined(conf.AppArmorProfile) && conf.IntelRdt == nil && conf.Personality == nil &&
		conf.Scheduler == nil && conf.IOPriority == nil && conf.ExecCPUAffinity == nil && conf.MemoryPolicy == nil
	// Whoever shares the pid namespace would see us, with capabilities that
	// nobody here knows of.
	if !plain || !conf.Namespaces.IsPrivate(configs.NEWPID) || !conf.Namespaces.Contains(configs.NEWNS) || conf.Namespaces.Contains(configs.NEWTIME) ||
		allCaps(conf.Capabilities)&bits(onlookers) != 0 {
		return nil
	}
	if b, _ := os.ReadFile("/proc/self/setgroups"); strings.TrimSpace(string(b)) == "deny" {
		return nil
	}
	// The range holds no descriptor: this asks whether there is such a call.
	if unix.CloseRange(^uint(0), ^uint(0), 0) != nil {
		return nil
	}
	d := &direct{}
	for _, ns := range conf.Namespaces {
		alone := configs.Namespaces{{Type: ns.Type}} // CloneFlags leaves out those with a path
		d.namespaces |= int(alone.CloneFlags())
	}
	if !conf.NoNewKeyring {
		d.keyring = "_ses." + c.c.ID()
	}
	if c.group == nil {
		state, err := c.c.State()
		if err != nil || !cgroups.IsCgroup2UnifiedMode() || state.CgroupPaths[""] == "" {
			return nil
		}
		d.group = state.CgroupPaths[""]
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	d.init = os.NewFile(uintptr(fd), "init")
	return d
}

func (d *direct) close() {
	if d != nil {
		d.init.Close()
		d.trampoline.Close() // nil is an error of no interest
	}
}

// unconfined says that a name is none of an AppArmor profile to enter.
func unconfined(profile string) bool { return profile == "" || profile == "unconfined" }

// execDirect runs the process if the short way is for it; done says whether that is
// so, and then the outcome is final.
func (c *Container) execDirect(p *Process) (r *Running, done bool, err error) {
	job := c.job(p)
	if job == nil {
		return nil, false, nil
	}
	if c.direct.group != "" {
		dir, err := os.OpenFile(c.direct.group, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, false, nil
		}
		defer dir.Close()
		job.Cgroup = dir
	}
	if c.direct.trampoline == nil { // the first
		var err error
		if c.direct.trampoline, err = nsexec.Trampoline(); err != nil || !c.seccomp.allows(unix.SYS_EXECVEAT) {
			c.direct.close()
			c.direct = nil
			return nil, false, nil
		}
	}
	job.Trampoline = c.direct.trampoline
	proc, err := nsexec.Start(job)
	var failed *nsexec.Error
	if errors.As(err, &failed) {
		if failed.Stage == nsexec.Fork {
			return nil, false, nil
		}
		return nil, true, c.group.explain(directError(failed, p.Spec.Args[0]))
	}
	if err != nil {
		return nil, true, fault.Opaque(err)
	}
	return &Running{p: proc, Pid: proc.Pid}, true, nil
}

// job is nil if libcontainer must do it.
func (c *Container) job(p *Process) *nsexec.Job {
	d, s := c.direct, p.Spec
	if d == nil || s.Capabilities == nil {
		return nil
	}
	if specCaps(s.Capabilities)&bits(onlookers) != 0 {
		// Also for all later ones: this process may be there still.
		d.exposed = true
	}
	switch {
	case d.exposed, p.Long, s.Terminal, len(s.Args) == 0, s.SelinuxLabel != "", !unconfined(s.ApparmorProfile),
		s.Scheduler != nil, s.IOPriority != nil, s.ExecCPUAffinity != nil, dumpsAll(), c.group.crowded():
		return nil
	}
	env, search, ok := environment(s.Env)
	if !ok || !clean(s.Args...) || !clean(s.Cwd) {
		return nil
	}
	paths := lookup(s.Args[0], search)
	if paths == nil {
		return nil
	}
	j := &nsexec.Job{
		Init: d.init, Namespaces: d.namespaces, Groups: c.group.files(), Keyring: d.keyring,
		Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr,
		NoNewPrivs: s.NoNewPrivileges, Umask: -1, Dir: s.Cwd, UID: s.User.UID, GID: s.User.GID, Supplementary: s.User.AdditionalGids,
		Filter: c.seccomp.Program, FilterFlags: c.seccomp.Flags, Paths: paths, Args: s.Args, Env: env,
		Capabilities: nsexec.Capabilities{Bounding: bits(s.Capabilities.Bounding), Effective: bits(s.Capabilities.Effective),
			Permitted: bits(s.Capabilities.Permitted), Inheritable: bits(s.Capabilities.Inheritable), Ambient: bits(s.Capabilities.Ambient)},
	}
	if c.conf.OomScoreAdj != nil {
		j.OOMScore = strconv.Itoa(*c.conf.OomScoreAdj)
	}
	if c.conf.Umask != nil {
		j.Umask = int(*c.conf.Umask)
	}
	limits, err := rlimits(s.Rlimits)
	if err != nil {
		return nil
	}
	if len(limits) == 0 {
		limits = c.conf.Rlimits
	}
	for _, l := range limits {
		j.Rlimits = append(j.Rlimits, nsexec.Rlimit{What: l.Type, Soft: l.Soft, Hard: l.Hard})
	}
	return j
}

// environment removes what a later value replaces. It is not ok if it is for
// libcontainer: to look for a home, or to say what is wrong.
func environment(in []string) (out []string, path string, ok bool) {
	seen := map[string]bool{}
	for _, e := range slices.Backward(in) {
		key, value, found := strings.Cut(e, "=")
		if !found || key == "" || !clean(e) {
			return nil, "", false
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		switch key {
		case "PATH":
			path = value
		case "HOME":
			ok = value != ""
		}
		out = append(out, e)
	}
	slices.Reverse(out)
	return out, path, ok
}

// lookup lists where a command may be, as Go's exec.LookPath searches. Nil is
// for libcontainer.
func lookup(name, path string) []string {
	switch {
	case name == "", name == ".", name == "..":
		return nil
	case strings.Contains(name, "/"):
		return []string{name}
	}
	var out []string
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			return nil // found there, it would be an error
		}
		out = append(out, filepath.Join(dir, name))
	}
	return out
}

// clean says that the kernel can take the strings.
func clean(in ...string) bool {
	return !slices.ContainsFunc(in, func(s string) bool { return strings.IndexByte(s, 0) >= 0 })
}

// dumpsAll says that processes which change their user become dumpable, which
// is for debugging the whole machine.
func dumpsAll() bool {
	b, err := os.ReadFile("/proc/sys/fs/suid_dumpable")
	return err != nil || strings.TrimSpace(string(b)) == "1"
}

// directError gives a failure the kinds that callers test for.
func directError(e *nsexec.Error, command string) error {
	if e.Stage != nsexec.Lookup && e.Stage != nsexec.Exec {
		return fault.Opaque(e)
	}
	if e.Stage == nsexec.Lookup && !strings.Contains(command, "/") {
		return fault.Kind(errNotFound, "%w", fault.Opaque(&exec.Error{Name: command, Err: exec.ErrNotFound}))
	}
	err := fault.Opaque(&exec.Error{Name: command, Err: e})
	switch {
	case errors.Is(e, os.ErrNotExist):
		return fault.Kind(errNotFound, "%w", err)
	case errors.Is(e, os.ErrPermission), errors.Is(e, unix.EISDIR):
		return fault.Kind(os.ErrPermission, "%w", err)
	}
	return err
}

func specCaps(c *specs.LinuxCapabilities) uint64 {
	return bits(c.Bounding) | bits(c.Effective) | bits(c.Permitted) | bits(c.Inheritable) | bits(c.Ambient)
}

func allCaps(c *configs.Capabilities) uint64 {
	return bits(c.Bounding) | bits(c.Effective) | bits(c.Permitted) | bits(c.Inheritable) | bits(c.Ambient)
}

// numbers are the kernel's, by name.
var numbers = sync.OnceValue(func() map[string]capability.Cap {
	m := map[string]capability.Cap{}
	list, err := capability.ListSupported()
	if err != nil {
		list = capability.ListKnown()
	}
	for _, c := range list {
		m["CAP_"+strings.ToUpper(c.String())] = c
	}
	return m
})

// bits leaves out what the kernel does not know of, as libcontainer does.
func bits(names []string) (set uint64) {
	known := numbers()
	for _, n := range names {
		if c, ok := known[n]; ok {
			set |= 1 << c
		}
	}
	return set
}
