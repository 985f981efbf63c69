package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds what is read of an image's passwd and group.
const maxUserFile = 10 << 20

// user resolves names by the container's own files and sets what follows from
// who the process is: ids, groups, HOME, capabilities.
func (s *shim) user(p *specs.Process, name string, groups []string) error {
	passwd, err := s.userFile("/etc/passwd")
	if err != nil {
		return err
	}
	group, err := s.userFile("/etc/group")
	if err != nil {
		return err
	}
	u, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return fault.Invalid("user %q: %w; name one of the container's /etc/passwd and /etc/group, or give numbers", name, fault.Opaque(err))
	}
	extra, err := user.GetAdditionalGroups(groups, bytes.NewReader(group))
	if err != nil {
		return fault.Invalid("group %s: %w; name one of the container's /etc/group, or give numbers", strings.Join(groups, ", "), fault.Opaque(err))
	}
	p.User.UID, p.User.GID = uint32(u.Uid), uint32(u.Gid)
	p.User.AdditionalGids = nil
	for _, g := range append(u.Sgids, extra...) {
		if !slices.Contains(p.User.AdditionalGids, uint32(g)) {
			p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
		}
	}
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+u.Home)
	}
	if p.User.UID != 0 && p.Capabilities != nil {
		// What execve gives a user who is not root: the bounding set alone.
		p.Capabilities = &specs.LinuxCapabilities{Bounding: p.Capabilities.Bounding, Ambient: p.Capabilities.Ambient, Inheritable: p.Capabilities.Inheritable}
	}
	return nil
}

// userFile reads a file of the container that may be anything: a FIFO, a
// device, a link to the host. Only a regular file inside the root counts.
func (s *shim) userFile(path string) ([]byte, error) {
	f, err := s.openInRoot(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fault.Opaque(err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxUserFile {
		return nil, fault.Invalid("%s of the container is no regular file of at most %d MiB", path, maxUserFile>>20)
	}
	return io.ReadAll(f)
}

// files writes what is mounted at /etc/hostname, hosts and resolv.conf.
func (s *shim) files(spec *specs.Spec) error {
	if strings.HasPrefix(s.c.Network, "container:") {
		return nil // the other container's files are mounted
	}
	f := s.cfg.Files
	for name, make := range map[string]func() ([]byte, error){
		"hostname":    func() ([]byte, error) { return []byte(f.Hostname + "\n"), nil },
		"hosts":       s.hosts,
		"resolv.conf": s.resolvConf,
	} {
		if slices.Contains(f.Skip, name) {
			continue
		}
		data, err := make()
		if err != nil {
			return err
		}
		path := s.root.Path(s.c.ID, name)
		// In place: a rename would not reach a container that has it mounted.
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fault.Opaque(err)
		}
	}
	return nil
}

// limitFiles are where a limit stands in cgroup v1 and v2.
var limitFiles = map[string][]string{
	"memory": {"memory.limit_in_bytes", "memory.max"},
	"pids":   {"pids.max"},
	"cpu":    {"cpu.cfs_quota_us", "cpu.max"},
	"shares": {"cpu.shares", "cpu.weight"},
	"cpuset": {"cpuset.cpus"},
	"blkio":  {"blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"},
}

// limitControllers are the controllers of cgroup v2 where they are not called
// as the limit is.
var limitControllers = map[string]string{"shares": "cpu", "blkio": "io"}

// canLimit says what is in the way of a limit before the runtime library fails
// to write it.
func (s *shim) canLimit() error {
	for _, l := range s.cfg.Limits {
		name := limitControllers[l.What]
		if name == "" {
			name = l.What
		}
		lacks, err := cgroup.Lacks(s.c.Cgroup, []string{name})
		if err != nil {
			return fault.Opaque(err)
		}
		if lacks == nil {
			continue
		}
		if lacks.Occupied == "" {
			return fault.Unsupported("%s cannot be enforced: there is no %s controller on cgroup v2 here", l.Why, name)
		}
		return fault.Unsupported("%s cannot be enforced: the control group %s is occupied, so that it hands no %s controller down to %s; move its processes to a group of their own, or name another one in Options.CgroupParent",
			l.Why, lacks.Occupied, name, s.c.Cgroup)
	}
	return nil
}

// checkLimits refuses to run a container without the limits it was given: the
// runtime library carries on when a controller cannot be enabled.
func (s *shim) checkLimits() error {
	for _, l := range s.cfg.Limits {
		value, err := "", error(nil)
		for _, file := range limitFiles[l.What] {
			if value, err = cgroup.Read(s.c.Cgroup, file); err == nil {
				break
			}
		}
		if err != nil {
			return fault.Unsupported("%s cannot be enforced: the control group %s has no %s controller; enable it in the groups above, or move the processes that occupy them elsewhere",
				l.Why, s.c.Cgroup, l.What)
		}
		if l.What == "memory" && l.Value > 0 {
			got, err := strconv.ParseInt(value, 10, 64)
			if err != nil || got > l.Value {
				return fault.Unsupported("%s is not in force: control group %s says %s", l.Why, s.c.Cgroup, value)
			}
		}
	}
	return nil
}
