package volume

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// kind is the type with its default.
func (m *Mount) kind() Type {
	if m.Type == "" {
		return Named
	}
	return m.Type
}

// Validate reports whether a container could have this mount, without looking
// at the machine. Errors are [fs.ErrInvalid] and name the field.
func (m *Mount) Validate() error {
	if err := m.validate(); err != nil {
		return fault.New("mount", m.Target, err)
	}
	return nil
}

// ValidateAll validates every mount and that no two have the same target.
func ValidateAll(mounts []Mount) error {
	seen := make(map[string]bool, len(mounts))
	for i := range mounts {
		if err := mounts[i].Validate(); err != nil {
			return err
		}
		target := path.Clean(mounts[i].Target)
		if seen[target] {
			return fault.New("mount", target, fault.Invalid("two mounts have this target: remove one"))
		}
		seen[target] = true
	}
	return nil
}

func (m *Mount) validate() error {
	switch m.kind() {
	case Bind, Named, Tmpfs, Image:
	default:
		return fault.Invalid("unknown type %q: use bind, volume, tmpfs or image", m.Type)
	}
	if err := m.checkText(); err != nil {
		return err
	}
	if err := checkTarget(m.Target); err != nil {
		return err
	}
	if err := m.checkSource(); err != nil {
		return err
	}
	if err := m.checkForeign(); err != nil {
		return err
	}
	if m.ReadOnlyNonRecursive && m.ReadOnlyForceRecursive {
		return fault.Invalid("ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
	}
	if (m.ReadOnlyNonRecursive || m.ReadOnlyForceRecursive) && !m.ReadOnly {
		return fault.Invalid("ReadOnlyNonRecursive and ReadOnlyForceRecursive need ReadOnly")
	}
	if m.Propagation != "" && !isPropagation(m.Propagation) {
		return fault.Invalid("unknown propagation %q: use %s", m.Propagation, strings.Join(propagations, ", "))
	}
	if m.Relabel != "" && m.Relabel != "z" && m.Relabel != "Z" {
		return fault.Invalid("unknown relabel %q: use z (shared) or Z (private)", m.Relabel)
	}
	if m.Subpath != "" && !isLocal(m.Subpath) {
		return fault.Invalid("subpath %q must be relative and stay below the root", m.Subpath)
	}
	if m.TmpfsSize < 0 {
		return fault.Invalid("tmpfs size %d is negative", m.TmpfsSize)
	}
	if m.TmpfsMode != 0 {
		if again, err := parseMode(formatMode(m.TmpfsMode)); err != nil || again != m.TmpfsMode {
			return fault.Invalid("tmpfs mode %v has bits that are no permissions", m.TmpfsMode)
		}
	}
	for _, o := range m.TmpfsOptions {
		if !isTmpfsOption(o) {
			return fault.Invalid("unknown tmpfs option %q", o)
		}
	}
	return nil
}

// checkText refuses what neither a system call nor JSON would carry unchanged.
func (m *Mount) checkText() error {
	texts := []string{m.Source, m.Target, m.Subpath}
	for k, v := range m.Labels {
		texts = append(texts, k, v)
	}
	for k, v := range m.DriverOptions {
		texts = append(texts, k, v)
	}
	for _, s := range texts {
		if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			return fault.Invalid("%q holds a NUL byte or is not valid UTF-8", s)
		}
	}
	return nil
}

func checkTarget(target string) error {
	switch {
	case target == "":
		return fault.Invalid("the target is empty: give an absolute path in the container")
	case !path.IsAbs(target):
		return fault.Invalid("the target %q must be an absolute path in the container", target)
	case path.Clean(target) == "/":
		return fault.Invalid("the target cannot be /: mount on a directory below it")
	}
	return nil
}

func (m *Mount) checkSource() error {
	switch m.kind() {
	case Bind:
		if m.Source == "" {
			return fault.Invalid("a bind needs a source: an absolute path of the host")
		}
		if !path.IsAbs(m.Source) {
			return fault.Invalid("the source %q of a bind must be an absolute path of the host", m.Source)
		}
	case Named:
		if m.Source != "" {
			if err := record.CheckName(m.Source); err != nil {
				if path.IsAbs(m.Source) {
					return fault.Invalid("a volume's source is a name, not the path %q: use type bind for paths", m.Source)
				}
				return err
			}
		}
	case Tmpfs:
		if m.Source != "" {
			return fault.Invalid("a tmpfs has no source, %q was given", m.Source)
		}
	case Image:
		if m.Source == "" {
			return fault.Invalid("an image mount needs a source: the image's reference")
		}
	}
	return nil
}

// checkForeign refuses fields of other types: none is ignored in silence.
func (m *Mount) checkForeign() error {
	for _, f := range []struct {
		name string
		set  bool
		of   []Type
	}{
		{"propagation", m.Propagation != "", []Type{Bind}},
		{"non-recursive", m.NonRecursive, []Type{Bind}},
		{"create-source", m.CreateSource, []Type{Bind}},
		{"relabel", m.Relabel != "", []Type{Bind, Named}},
		{"read-only recursion", m.ReadOnlyNonRecursive || m.ReadOnlyForceRecursive, []Type{Bind}},
		{"no-copy", m.NoCopy, []Type{Named}},
		{"labels", len(m.Labels) > 0, []Type{Named}},
		{"driver", m.Driver != "" || len(m.DriverOptions) > 0, []Type{Named}},
		{"subpath", m.Subpath != "", []Type{Named, Image}},
		{"tmpfs size", m.TmpfsSize != 0, []Type{Tmpfs}},
		{"tmpfs mode", m.TmpfsMode != 0, []Type{Tmpfs}},
		{"tmpfs options", len(m.TmpfsOptions) > 0, []Type{Tmpfs}},
	} {
		if f.set && !slices.Contains(f.of, m.kind()) {
			return fault.Invalid("%s does not apply to a mount of type %s", f.name, m.kind())
		}
	}
	return nil
}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

func isPropagation(s string) bool { return slices.Contains(propagations, s) }

// isLocal is filepath.IsLocal for the paths of Linux, on every system.
func isLocal(p string) bool {
	p = path.Clean(p)
	return !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../")
}

var tmpfsFlags = []string{"exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime", "strictatime", "nodiratime", "sync", "dirsync"}

func isTmpfsOption(o string) bool {
	key, value, has := strings.Cut(o, "=")
	if !has {
		return slices.Contains(tmpfsFlags, o)
	}
	switch key {
	case "uid", "gid", "nr_inodes":
		_, err := strconv.ParseUint(value, 10, 32)
		return err == nil
	}
	return false
}
