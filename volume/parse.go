package volume

import (
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// ParseVolume reads the value of Docker's -v flag, [SOURCE:]TARGET[:OPTIONS].
// A source that begins with "/" or is ".", "..", or begins with "./" or "../"
// is a path of the host and makes a bind whose missing source is made
// ([Mount.CreateSource]); any other is the name of a volume; none is an
// anonymous volume. A relative path is left as it is: the caller, who knows to
// which directory, makes it absolute before Validate.
//
// OPTIONS are separated by commas: ro or rw, z or Z, nocopy (volumes), a
// propagation or rbind or bind (binds), and cached, delegated or consistent,
// which have no effect.
func ParseVolume(s string) (Mount, error) {
	m, err := parseVolume(s)
	if err != nil {
		return Mount{}, fault.New("parse volume", s, err)
	}
	return m, nil
}

func parseVolume(s string) (m Mount, err error) {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return m, fault.Invalid("too many colons: use [SOURCE:]TARGET[:OPTIONS]; a path with a colon needs --mount")
	}
	for _, p := range parts {
		if p == "" {
			return m, fault.Invalid("an empty part: use [SOURCE:]TARGET[:OPTIONS]")
		}
	}
	m.Type = Named
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2:
		if (&Mount{Type: Bind}).setOptions(parts[1]) == nil || parts[1] == "nocopy" {
			return m, fault.Invalid("options without a source: name the volume, NAME:%s, or use --mount for an anonymous one", s)
		}
		fallthrough
	default:
		m.Source, m.Target = parts[0], parts[1]
	}
	if path.IsAbs(m.Source) || isRelative(m.Source) {
		m.Type, m.CreateSource = Bind, true
	}
	if len(parts) == 3 {
		if err := m.setOptions(parts[2]); err != nil {
			return Mount{}, err
		}
	}
	return m, m.validateParsed()
}

// setOptions applies the third part of -v. Each group may be given once.
func (m *Mount) setOptions(list string) error {
	seen := map[string]string{}
	for o := range strings.SplitSeq(list, ",") {
		group, err := m.setOption(o)
		if err != nil {
			return err
		}
		if was, ok := seen[group]; ok {
			return fault.Invalid("the options %s and %s exclude each other", was, o)
		}
		seen[group] = o
	}
	return nil
}

// setOption applies one option and returns the group it belongs to.
func (m *Mount) setOption(o string) (group string, err error) {
	switch o {
	case "rw":
		return "access", nil
	case "ro":
		m.ReadOnly = true
		return "access", nil
	case "z", "Z":
		m.Relabel = o
		return "label", nil
	case "nocopy":
		if m.Type != Named {
			return "", fault.Invalid("the option nocopy is for volumes: a bind is never filled from the image")
		}
		m.NoCopy = true
		return "copy", nil
	case "rbind":
		return "recursion", m.bindOnly(o)
	case "bind":
		m.NonRecursive = true
		return "recursion", m.bindOnly(o)
	case "consistent", "cached", "delegated", "default":
		return "consistency", nil
	case "O":
		return "", fault.Unsupported("the option O (a throw-away overlay over the source) is not there yet: copy the source into a volume instead")
	case "U", "idmap":
		return "", fault.Unsupported("the option %s (mapped owners) is not there yet: chown the source instead", o)
	}
	if isPropagation(o) {
		m.Propagation = o
		return "propagation", m.bindOnly(o)
	}
	return "", fault.Invalid("unknown option %q: use ro, rw, z, Z, nocopy, bind, rbind or a propagation (%s)", o, strings.Join(propagations, ", "))
}

func (m *Mount) bindOnly(o string) error {
	if m.Type != Bind {
		return fault.Invalid("the option %s is for binds, not for volumes", o)
	}
	return nil
}

// ParseTmpfs reads the value of Docker's --tmpfs flag, TARGET[:OPTIONS], for
// example "/run:size=64m,mode=1770". size is in bytes or takes a suffix k, m,
// g or t (powers of 1024); mode is octal; ro, rw and [Mount.TmpfsOptions] are
// the others.
func ParseTmpfs(s string) (Mount, error) {
	m, err := parseTmpfs(s)
	if err != nil {
		return Mount{}, fault.New("parse tmpfs", s, err)
	}
	return m, nil
}

func parseTmpfs(s string) (Mount, error) {
	target, list, has := strings.Cut(s, ":")
	m := Mount{Type: Tmpfs, Target: target}
	if has && list == "" {
		return m, fault.Invalid("no options after the colon")
	}
	if has {
		for o := range strings.SplitSeq(list, ",") {
			if err := m.setTmpfs(o); err != nil {
				return m, err
			}
		}
	}
	return m, m.validate()
}

func (m *Mount) setTmpfs(o string) error {
	key, value, _ := strings.Cut(o, "=")
	switch {
	case key == "size":
		n, err := parseSize(value)
		if err != nil {
			return err
		}
		m.TmpfsSize = n
	case key == "mode":
		mode, err := parseMode(value)
		if err != nil {
			return fault.Invalid("%w", err)
		}
		m.TmpfsMode = mode
	case o == "ro":
		m.ReadOnly = true
	case o == "rw":
		m.ReadOnly = false
	case isTmpfsOption(o):
		m.TmpfsOptions = append(m.TmpfsOptions, o)
	default:
		return fault.Invalid("unknown tmpfs option %q: use size=, mode=, ro, rw, uid=, gid=, nr_inodes=, %s", o, strings.Join(tmpfsFlags, ", "))
	}
	return nil
}

// parseSize reads bytes with an optional suffix, also as "64mb" or "64MiB".
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kmgtibKMGTIB")
	suffix := strings.ToLower(s[len(digits):])
	shift, ok := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.TrimSuffix(strings.TrimSuffix(suffix, "b"), "i")]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || suffix == "i" || suffix == "ib" || n < 0 || n > math.MaxInt64>>shift {
		return 0, fault.Invalid("invalid size %q: use bytes, or a suffix k, m, g or t", s)
	}
	return n << shift, nil
}
