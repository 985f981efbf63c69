package build

import (
	"regexp"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
)

// hostGateway stands for "host-gateway" where the frontend takes nothing but
// addresses. It is of 100::/64, which RFC 6666 keeps for packets that are to be
// thrown away, so nobody means it.
const hostGateway = "100::616d:7068:6f72:6100"

func invalid(format string, args ...any) error { return fault.Invalid(format, args...) }

// check finds what is wrong with a request before anything is done. Errors name
// the field.
func (r *Request) check() error {
	for _, f := range []func() error{r.checkContexts, r.checkDockerfile, r.checkNames, r.checkCommands, r.checkSecrets, r.checkOutputs, r.checkCaches} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) checkContexts() error {
	if err := r.Context.check(); err != nil {
		return invalid("Request.Context: %w", err)
	}
	if c := r.Context; c.Image != "" || c.Layout != "" || c.Result != nil {
		return invalid("Request.Context: an image cannot be the main context; list it in Request.Contexts")
	}
	for _, name := range sortedKeys(r.Contexts) {
		c := r.Contexts[name]
		if err := c.check(); err != nil {
			return invalid("Request.Contexts[%q]: %w", name, err)
		}
		if base, _, _ := strings.Cut(name, "::"); base == "" || base == "scratch" || base == "context" {
			return invalid("Request.Contexts: %q is no name for a context", name)
		}
	}
	return nil
}

// check wants at most one field.
func (c *Context) check() error {
	var given []string
	for _, f := range []struct {
		name string
		set  bool
	}{{"Dir", c.Dir != ""}, {"FS", c.FS != nil}, {"Tar", c.Tar != nil}, {"URL", c.URL != ""}, {"Image", c.Image != ""}, {"Layout", c.Layout != ""}, {"Result", c.Result != nil}} {
		if f.set {
			given = append(given, f.name)
		}
	}
	if len(given) > 1 {
		return invalid("it has %s: give one", strings.Join(given, " and "))
	}
	if c.Ref != "" && c.Layout == "" {
		return invalid("Ref is for Layout")
	}
	return nil
}

func (r *Request) checkDockerfile() error {
	if r.Inline != nil {
		return nil
	}
	if c := r.Context; c.Dir == "" && c.FS == nil && c.Tar == nil && c.URL == "" && !isAbs(r.Dockerfile) {
		return invalid("there is no Dockerfile: give Request.Context, Request.Inline, or an absolute path in Request.Dockerfile")
	}
	if _, ok := relative(r.Dockerfile); !ok && !isAbs(r.Dockerfile) {
		return invalid("Request.Dockerfile %q leads out of the context: give an absolute path", r.Dockerfile)
	}
	return nil
}

func (r *Request) checkNames() error {
	for i, tag := range r.Tags {
		ref, err := image.ParseRef(tag)
		if err == nil && ref.Digest != "" {
			err = invalid("a name with a digest cannot be given to a new image")
		}
		if err != nil {
			return invalid("Request.Tags[%d] %q: %w", i, tag, err)
		}
	}
	for i, p := range r.Platforms {
		if p == "" || strings.ContainsAny(p, ", \t\n") {
			return invalid("Request.Platforms[%d] %q is no platform, such as linux/arm64", i, p)
		}
	}
	for name := range r.Args {
		if name == "" || strings.ContainsAny(name, "= \t\n") {
			return invalid("Request.Args: %q is no name of an argument", name)
		}
	}
	if r.Epoch != nil && r.Args["SOURCE_DATE_EPOCH"] != "" {
		return invalid("Request.Epoch and Request.Args[SOURCE_DATE_EPOCH]: give one")
	}
	for i, stage := range r.NoCacheFilter {
		if stage == "" || strings.Contains(stage, ",") {
			return invalid("Request.NoCacheFilter[%d] %q is no stage", i, stage)
		}
	}
	if !slices.Contains([]Pull{PullMissing, PullAlways, PullNever, "missing"}, r.Pull) {
		return invalid("Request.Pull %q is unknown: want missing, always or never", r.Pull)
	}
	return nil
}

// ulimitName keeps what the frontend would take for a separator out.
var ulimitName = regexp.MustCompile(`^[a-z]+$`)

func (r *Request) checkCommands() error {
	if !slices.Contains([]string{"", "none", "host"}, r.Network) {
		return invalid("Request.Network %q is unknown: want nothing for a bridge network, none or host", r.Network)
	}
	for i, h := range r.ExtraHosts {
		if _, _, err := splitHost(h); err != nil {
			return invalid("Request.ExtraHosts[%d]: %w", i, err)
		}
	}
	for i, u := range r.Ulimits {
		if !ulimitName.MatchString(u.Name) || u.Soft < -1 || u.Hard < -1 || u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return invalid("Request.Ulimits[%d] %s=%d:%d: want a name such as nofile, and no soft limit above the hard one", i, u.Name, u.Soft, u.Hard)
		}
	}
	if r.ShmSize < 0 {
		return invalid("Request.ShmSize is negative")
	}
	c := r.Resources
	if c.Memory < 0 || c.MemorySwap < -1 || c.CPUQuota < 0 {
		return invalid("Request.Resources: a limit is negative")
	}
	if c.MemorySwap > 0 && c.MemorySwap < c.Memory {
		return invalid("Request.Resources.MemorySwap is memory and swap together: it is less than Memory")
	}
	for i, a := range r.Allow {
		if what, _, _ := strings.Cut(a, "="); a != AllowHostNetwork && a != AllowInsecure && what != AllowDevice {
			return invalid("Request.Allow[%d] %q is unknown: want %s, %s or %s", i, a, AllowHostNetwork, AllowInsecure, AllowDevice)
		}
	}
	return nil
}

func (r *Request) checkSecrets() error {
	for _, id := range sortedKeys(r.Secrets) {
		s := r.Secrets[id]
		n := 0
		for _, set := range []bool{s.File != "", s.Env != "", s.Data != nil} {
			if set {
				n++
			}
		}
		if id == "" || n != 1 {
			return invalid("Request.Secrets[%q]: give File, Env or Data", id)
		}
	}
	for _, id := range sortedKeys(r.SSH) {
		if s := r.SSH[id]; id == "" || s.Socket != "" && len(s.Keys) > 0 {
			return invalid("Request.SSH[%q]: give Socket or Keys", id)
		}
	}
	return nil
}

func (r *Request) checkOutputs() error {
	for i, o := range r.Outputs {
		switch o.Type {
		case OutputImage:
			if o.Path != "" || o.Writer != nil {
				return invalid("Request.Outputs[%d]: an image in the store has neither Path nor Writer", i)
			}
		case OutputDir:
			if o.Path == "" || o.Writer != nil {
				return invalid("Request.Outputs[%d]: a directory needs a Path", i)
			}
		case OutputOCI, OutputDocker, OutputTar:
			if (o.Path == "") == (o.Writer == nil) {
				return invalid("Request.Outputs[%d]: an archive needs a Path or a Writer", i)
			}
			if o.Type == OutputDocker && len(r.Platforms) > 1 {
				return invalid("Request.Outputs[%d]: docker's archive holds one platform; use %q for several", i, OutputOCI)
			}
		default:
			return invalid("Request.Outputs[%d]: the type %q is unknown", i, o.Type)
		}
	}
	return nil
}

func (r *Request) checkCaches() error {
	for field, list := range map[string][]Cache{"CacheFrom": r.CacheFrom, "CacheTo": r.CacheTo} {
		for i, c := range list {
			n := 0
			for _, set := range []bool{c.Dir != "", c.Ref != "", c.Inline} {
				if set {
					n++
				}
			}
			if n != 1 {
				return invalid("Request.%s[%d]: give Dir, Ref or Inline", field, i)
			}
			if field == "CacheFrom" && (c.Inline || c.Max) {
				return invalid("Request.CacheFrom[%d]: Inline and Max are for CacheTo; name the image in Ref", i)
			}
		}
	}
	return nil
}

// allowed is what commands may have.
type allowed struct {
	hostNetwork, insecure, devices bool
	named                          []string // devices
}

// allowed reads Allow. Asking for the host's network as the mode of all
// commands allows it.
func (r *Request) allowed() allowed {
	a := allowed{
		hostNetwork: r.Network == "host" || slices.Contains(r.Allow, AllowHostNetwork),
		insecure:    slices.Contains(r.Allow, AllowInsecure),
		devices:     slices.Contains(r.Allow, AllowDevice),
	}
	for _, x := range r.Allow {
		if name, ok := strings.CutPrefix(x, AllowDevice+"="); ok {
			a.named = append(a.named, name)
		}
	}
	return a
}

func (a *allowed) device(name string) bool { return a.devices || slices.Contains(a.named, name) }
