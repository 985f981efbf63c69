package volume

import (
	"encoding/csv"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// ParseMount reads the value of Docker's --mount flag, for example
//
//	type=bind,src=/srv/www,dst=/www,readonly
//	src=db,dst=/var/lib/postgresql/data
//	type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770
//
// It is one line of CSV: a value with a comma stands in double quotes around
// the whole field. Sizes take the suffixes of [ParseTmpfs]. The source of a
// bind may be relative here; the caller, who knows to which directory, makes
// it absolute before Validate. All else is valid on success.
func ParseMount(s string) (Mount, error) {
	m, err := parseMount(s)
	if err != nil {
		return Mount{}, fault.New("parse mount", s, err)
	}
	return m, nil
}

func parseMount(s string) (m Mount, err error) {
	r := csv.NewReader(strings.NewReader(s))
	fields, err := r.Read()
	if err != nil {
		return m, fault.Invalid("not a list of key=value: %w", err)
	}
	if rest, err := r.Read(); err == nil {
		return m, fault.Invalid("a line break before %q", strings.Join(rest, ","))
	}
	m.Type = Named
	for _, f := range fields {
		key, value, has := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if err := m.setFlag(key, value, has); err != nil {
			return Mount{}, err
		}
	}
	return m, m.validateParsed()
}

// validateParsed is validate, with a relative source of a bind let through.
func (m *Mount) validateParsed() error {
	v := *m
	if v.kind() == Bind && isRelative(v.Source) {
		v.Source = "/" + v.Source
	}
	return v.validate()
}

func isRelative(source string) bool {
	return source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// setFlag applies one key of --mount.
func (m *Mount) setFlag(key, value string, has bool) error {
	if b := m.boolFlag(key); b != nil {
		on := true
		if has {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return fault.Invalid("%s=%s: use true or false", key, value)
			}
		}
		*b = on
		return nil
	}
	if !has || value == "" {
		if slices.Contains(valueKeys, key) {
			return fault.Invalid("%s needs a value: %s=...", key, key)
		}
		return fault.Invalid("unknown key %q: known are type, source, target, readonly, %s", key, strings.Join(valueKeys[6:], ", "))
	}
	switch key {
	case "type":
		m.Type = Type(strings.ToLower(value))
	case "source", "src":
		m.Source = value
	case "target", "destination", "dst":
		m.Target = value
	case "bind-propagation":
		m.Propagation = value
	case "bind-recursive":
		return m.setRecursive(value)
	case "volume-subpath", "image-subpath":
		m.Subpath = value
	case "volume-label":
		return setPair(&m.Labels, key, value)
	case "volume-driver":
		m.Driver = value
	case "volume-opt":
		return setPair(&m.DriverOptions, key, value)
	case "tmpfs-size":
		n, err := parseSize(value)
		m.TmpfsSize = n
		return err
	case "tmpfs-mode":
		mode, err := parseMode(value)
		if err != nil {
			return fault.Invalid("%w", err)
		}
		m.TmpfsMode = mode
	case "consistency":
		return checkConsistency(value)
	default:
		return fault.Invalid("unknown key %q: known are type, source, target, readonly, %s", key, strings.Join(valueKeys[6:], ", "))
	}
	return nil
}

// valueKeys take a value that is not a boolean; messages name the
// first six by their best known forms.
var valueKeys = []string{"source", "src", "destination", "dst", "target", "type", "bind-propagation", "bind-recursive",
	"volume-subpath", "volume-label", "volume-driver", "volume-opt", "image-subpath", "tmpfs-size", "tmpfs-mode", "consistency"}

func (m *Mount) boolFlag(key string) *bool {
	switch key {
	case "readonly", "ro":
		return &m.ReadOnly
	case "volume-nocopy":
		return &m.NoCopy
	case "bind-nonrecursive":
		return &m.NonRecursive
	case "bind-create-src":
		return &m.CreateSource
	}
	return nil
}

func (m *Mount) setRecursive(value string) error {
	switch value {
	case "enabled":
	case "disabled":
		m.NonRecursive = true
	case "writable":
		m.ReadOnlyNonRecursive = true
	case "readonly":
		m.ReadOnlyForceRecursive = true
	default:
		return fault.Invalid("bind-recursive=%s: use enabled, disabled, writable or readonly", value)
	}
	return nil
}

// setPair reads key=value, or key alone, into a map.
func setPair(to *map[string]string, flag, pair string) error {
	key, value, _ := strings.Cut(pair, "=")
	if key == "" {
		return fault.Invalid("%s=%s: the key is empty", flag, pair)
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[key] = value
	return nil
}

// checkConsistency accepts Docker's hints for the file sharing of its desktop
// products. They have no effect on Linux, in Docker neither.
func checkConsistency(s string) error {
	if !slices.Contains(consistencies, s) {
		return fault.Invalid("unknown consistency %q: use %s", s, strings.Join(consistencies, ", "))
	}
	return nil
}

var consistencies = []string{"default", "consistent", "cached", "delegated"}
