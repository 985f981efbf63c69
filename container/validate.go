package container

import (
	"net"
	"path"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// validate checks what can be checked without the machine or the image.
func validate(s *Spec) error {
	switch {
	case s.Image == "" && s.Rootfs == "":
		return fault.Invalid("neither an image nor a rootfs is given")
	case s.Image != "" && s.Rootfs != "":
		return fault.Invalid("both an image (%s) and a rootfs (%s) are given: choose one", s.Image, s.Rootfs)
	case s.Rootfs != "" && (!path.IsAbs(s.Rootfs) || path.Clean(s.Rootfs) == "/"):
		return fault.Invalid("rootfs %q: give an absolute path, not /", s.Rootfs)
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return fault.Invalid("working directory %q: give an absolute path", s.Dir)
	case len(s.Hostname) > 63 || strings.ContainsAny(s.Hostname, " /\n\x00"):
		return fault.Invalid("host name %q: at most 63 letters, digits, '-' and '.'", s.Hostname)
	}
	if s.Name != "" {
		if err := record.CheckName(s.Name); err != nil {
			return err
		}
	}
	for i, n := range s.Networks {
		if err := n.Validate(); err != nil {
			return err
		}
		if !n.Own() && len(s.Networks) > 1 {
			return fault.Invalid("%d networks, of which one is %s: none, host or another container's can only be joined alone", len(s.Networks), n.Network)
		}
		for _, o := range s.Networks[:i] {
			if o.Network == n.Network {
				return fault.Invalid("network %s is given twice", n.Network)
			}
		}
	}
	for _, e := range s.Env {
		if e == "" || e[0] == '=' || strings.ContainsRune(e, 0) {
			return fault.Invalid("environment %q: give NAME=value", e)
		}
	}
	for _, h := range s.ExtraHosts {
		name, addr, ok := strings.Cut(h, ":")
		if !ok || name == "" || addr != "host-gateway" && net.ParseIP(strings.Trim(addr, "[]")) == nil {
			return fault.Invalid("extra host %q: give NAME:ADDRESS, or NAME:host-gateway", h)
		}
	}
	for _, d := range s.DNS.Servers {
		if net.ParseIP(d) == nil {
			return fault.Invalid("dns server %q is no IP address", d)
		}
	}
	return validateLife(s)
}

func validateLife(s *Spec) error {
	switch s.Restart.Policy {
	case "", "no", "always", "unless-stopped":
		if s.Restart.MaxRetries != 0 {
			return fault.Invalid("a maximum of retries goes with the restart policy on-failure only")
		}
	case "on-failure":
		if s.Restart.MaxRetries < 0 {
			return fault.Invalid("restart: maximum retries %d is negative", s.Restart.MaxRetries)
		}
	default:
		return fault.Invalid("unknown restart policy %q: use no, on-failure, always or unless-stopped", s.Restart.Policy)
	}
	if s.AutoRemove && s.Restart.Policy != "" && s.Restart.Policy != "no" {
		return fault.Invalid("a container that is removed at its end cannot have the restart policy %s", s.Restart.Policy)
	}
	switch s.Log.Driver {
	case "", "json-file", "none":
	default:
		return fault.Unsupported("unknown log driver %q: use json-file or none", s.Log.Driver)
	}
	if s.Log.MaxSize < 0 || s.Log.MaxFile < 0 {
		return fault.Invalid("log: size and number of files cannot be negative")
	}
	if s.Log.MaxFile > 1 && s.Log.MaxSize == 0 {
		return fault.Invalid("log: several files need a size after which the next begins")
	}
	if s.Stop.Signal != "" {
		if _, err := ParseSignal(s.Stop.Signal); err != nil {
			return err
		}
	}
	return nil
}
