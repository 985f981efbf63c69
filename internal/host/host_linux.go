package host

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Look probes once in a process.
var Look = sync.OnceValue(func() Facts {
	f := Facts{CPUs: runtime.NumCPU(), Unified: cgroup.Unified()}
	f.Hostname, _ = os.Hostname()
	f.SwapLimits = cgroup.CanLimitSwap()
	// A bad descriptor is refused as such where the call exists.
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	f.RecursiveRO = !errors.Is(err, unix.ENOSYS)
	return f
})

// Device describes a device of the host, or every one below a directory, as
// it shall appear at target.
func Device(source, target string) ([]specs.LinuxDevice, error) {
	st, err := os.Stat(source)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.Invalid("device %s does not exist on this machine", source)
		}
		return nil, fault.Opaque(err)
	}
	if !st.IsDir() {
		d, err := device(source, target)
		if err != nil {
			return nil, err
		}
		return []specs.LinuxDevice{d}, nil
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	var out []specs.LinuxDevice
	for _, e := range entries {
		switch {
		case e.Name() == "pts" || e.Name() == "shm" || e.Name() == "fd" || e.Name() == "mqueue" || e.Name() == "console":
		case e.IsDir():
			more, err := Device(filepath.Join(source, e.Name()), path.Join(target, e.Name()))
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case e.Type()&os.ModeDevice != 0:
			d, err := device(filepath.Join(source, e.Name()), path.Join(target, e.Name()))
			if err != nil {
				return nil, err
			}
			out = append(out, d)
		}
	}
	return out, nil
}

func device(source, target string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return specs.LinuxDevice{}, fault.Opaque(&os.PathError{Op: "stat", Path: source, Err: err})
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFIFO:
		kind = "p"
	default:
		return specs.LinuxDevice{}, fault.Invalid("%s is no device; to give a file to a container, mount it", source)
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{Path: target, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev)))}, nil
}

// NoOverlay reports that this kernel has no overlay file system at all.
var NoOverlay = sync.OnceValue(func() bool {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.ENODEV)
})
