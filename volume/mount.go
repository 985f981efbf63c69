package volume

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// Type is what a [Mount] puts into a container.
type Type string

// Types of mounts.
const (
	// Bind is a file or directory of the host.
	Bind Type = "bind"
	// Named is a volume of this store, by name, or an anonymous one that is
	// made for the container and goes with it.
	Named Type = "volume"
	// Tmpfs is memory that is gone when the container stops.
	Tmpfs Type = "tmpfs"
	// Image is the content of an image, read-only.
	Image Type = "image"
)

// Mount is one thing that a container sees at a path of its own. It is plain
// data; the zero value of every optional field is Docker's default.
//
// Paths are those of Linux, with slashes, on every system: a Mount can be
// written on one machine and used on another.
type Mount struct {
	// Type decides which other fields apply. Empty means "volume".
	Type Type `json:"type,omitempty"`
	// Source is an absolute path of the host (bind), the name of a volume
	// (empty: an anonymous one), or the reference of an image. A tmpfs has none.
	Source string `json:"source,omitempty"`
	// Target is an absolute path in the container, not "/". What is missing of
	// it is made.
	Target string `json:"target"`
	// ReadOnly denies writing through this mount. Unless ReadOnlyNonRecursive
	// is set, mounts below the source are made read-only too where the kernel
	// can (5.12). An image is read-only always.
	ReadOnly bool `json:"readOnly,omitempty"`
	// ReadOnlyNonRecursive leaves mounts below the source writable.
	ReadOnlyNonRecursive bool `json:"readOnlyNonRecursive,omitempty"`
	// ReadOnlyForceRecursive makes it an error if the kernel cannot make
	// mounts below the source read-only.
	ReadOnlyForceRecursive bool `json:"readOnlyForceRecursive,omitempty"`

	// Propagation of a bind: how mounts made later on one side appear on the
	// other: private, rprivate (the default), shared, rshared, slave or rslave.
	Propagation string `json:"propagation,omitempty"`
	// NonRecursive binds the source alone, without what is mounted below it.
	NonRecursive bool `json:"nonRecursive,omitempty"`
	// CreateSource makes a missing source of a bind as a directory owned by
	// root, mode 0755, as `docker -v` does. Else a missing source is an error.
	CreateSource bool `json:"createSource,omitempty"`
	// Relabel asks for an SELinux label, on machines that enforce SELinux: "z"
	// for content that containers share, "Z" for content of this one only.
	Relabel string `json:"relabel,omitempty"`

	// NoCopy leaves an empty volume empty. Else the first start fills it with
	// what the image has at Target.
	NoCopy bool `json:"noCopy,omitempty"`
	// Subpath mounts a path below the root of the volume or image. It must
	// exist, and cannot leave the root, not by symbolic links either.
	Subpath string `json:"subpath,omitempty"`
	// Labels are given to the volume if this mount makes it.
	Labels map[string]string `json:"labels,omitempty"`
	// Driver and DriverOptions are used if this mount makes the volume; see
	// [Spec].
	Driver        string            `json:"driver,omitempty"`
	DriverOptions map[string]string `json:"driverOptions,omitempty"`

	// TmpfsSize is the limit in bytes; 0: half of the machine's memory, which
	// is the kernel's own default.
	TmpfsSize int64 `json:"tmpfsSize,omitempty"`
	// TmpfsMode is the mode of the root of a tmpfs; 0: 1777 (world-writable,
	// sticky). In JSON it is an octal string such as "1770".
	TmpfsMode os.FileMode `json:"-"`
	// TmpfsOptions are further options of a tmpfs: exec, suid and dev (a tmpfs
	// is noexec,nosuid,nodev unless one of them says otherwise), their
	// opposites, uid=N, gid=N, nr_inodes=N, noatime, relatime, strictatime,
	// nodiratime, sync, dirsync.
	TmpfsOptions []string `json:"tmpfsOptions,omitempty"`
}

// plain has Mount's fields without its methods, and the mode as text.
type plain Mount

type mountJSON struct {
	plain
	Mode string `json:"tmpfsMode,omitempty"`
}

// MarshalJSON writes the mount with TmpfsMode as an octal string.
func (m Mount) MarshalJSON() ([]byte, error) {
	v := mountJSON{plain: plain(m)}
	if m.TmpfsMode != 0 {
		v.Mode = formatMode(m.TmpfsMode)
	}
	return json.Marshal(v)
}

// UnmarshalJSON is the inverse of MarshalJSON. Fields that it does not know
// are ignored.
func (m *Mount) UnmarshalJSON(data []byte) error {
	var v mountJSON
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*m = Mount(v.plain)
	if v.Mode != "" {
		mode, err := parseMode(v.Mode)
		if err != nil {
			return fmt.Errorf("tmpfsMode: %w", err)
		}
		m.TmpfsMode = mode
	}
	return nil
}

// formatMode writes permission, setuid, setgid and sticky bits as chmod(1)
// takes them.
func formatMode(m os.FileMode) string {
	bits := uint32(m.Perm())
	for _, b := range specialBits {
		if m&b.mode != 0 {
			bits |= b.unix
		}
	}
	return strconv.FormatUint(uint64(bits), 8)
}

// parseMode is the inverse of formatMode.
func parseMode(s string) (os.FileMode, error) {
	bits, err := strconv.ParseUint(s, 8, 32)
	if err != nil || bits > 0o7777 {
		return 0, fmt.Errorf("invalid mode %q: use up to four octal digits, such as 1770", s)
	}
	mode := os.FileMode(bits) & fs.ModePerm
	for _, b := range specialBits {
		if uint32(bits)&b.unix != 0 {
			mode |= b.mode
		}
	}
	return mode, nil
}

// specialBits pairs Go's bits with those of chmod(2).
var specialBits = []struct {
	mode os.FileMode
	unix uint32
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}
