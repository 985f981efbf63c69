package container

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// compiled is what a Spec becomes: the record, the configuration that a
// supervisor runs, and the seccomp profile that is still to be compiled.
type compiled struct {
	rec     *record.Container
	cfg     *record.Config
	seccomp string // Unconfined, a profile in JSON, or "" for the default
	init    bool
}

// facts are what compile must know of machine and image. Given the same, it
// yields the same.
type facts struct {
	id       string
	image    *image.Config // nil with Rootfs
	host     hostFacts
	base     string                                    // control group of the Root
	dir      string                                    // the container's directory
	networks []record.Endpoint                         // by their names; nil without networks of its own
	joined   string                                    // id of the container whose network is shared
	joinDir  string                                    // its directory
	joinName string                                    // its host name
	mounts   []volume.Mount                            // the Spec's, and the image's volumes
	volumes  map[string]claimed                        // by target
	images   map[string][]string                       // layers of mounted images, by target
	copy     bool                                      // no overlay here
	device   func(Device) ([]specs.LinuxDevice, error) // looks at the host's /dev
	all      func() ([]specs.LinuxDevice, error)       // all of them, for privileged containers
}

// claimed is a volume that exists and stays.
type claimed struct {
	name, source string
	fillable     bool
}

type hostFacts struct {
	cpus        int
	unified     bool // cgroup v2
	swapLimits  bool // memory.memsw or memory.swap exists
	hostname    string
	recursiveRO bool // mount_setattr, Linux 5.12
	caps        []string
	online      string // processors, "0-3"
	nodes       string // of memory
}

// compile turns a Spec into what a supervisor needs. It touches nothing.
func compile(spec *Spec, f *facts) (*compiled, error) {
	if err := validate(spec); err != nil {
		return nil, err
	}
	if f.image == nil {
		f.image = new(image.Config)
	}
	img := &f.image.Config
	p, err := process(spec, img, f)
	if err != nil {
		return nil, err
	}
	mode := mode(spec, f)
	oci := &specs.Spec{
		Version:  specs.Version,
		Process:  p,
		Root:     &specs.Root{Readonly: spec.Security.ReadOnly},
		Hostname: hostname(spec, f, mode), Domainname: spec.Domainname,
		Linux: &specs.Linux{Namespaces: jail.Namespaces(mode != network.Host, f.host.unified)},
	}
	c := &compiled{rec: new(record.Container), cfg: &record.Config{OCI: oci}, seccomp: spec.Security.Seccomp, init: spec.Init}
	confine(spec, oci)
	if err := resources(spec, f, c); err != nil {
		return nil, err
	}
	if err := devices(spec, f, oci); err != nil {
		return nil, err
	}
	if err := mounts(spec, f, c); err != nil {
		return nil, err
	}
	if err := settings(spec, img, f, c, mode); err != nil {
		return nil, err
	}
	return c, nil
}

func mode(spec *Spec, f *facts) string {
	if len(spec.Networks) == 0 {
		return network.Bridge
	}
	if f.joined != "" {
		return network.Container(f.joined)
	}
	return spec.Networks[0].Network
}

func hostname(spec *Spec, f *facts, mode string) string {
	switch {
	case spec.Hostname != "":
		return spec.Hostname
	case mode == network.Host:
		return f.host.hostname
	case f.joined != "":
		return f.joinName // as the files in /etc say, which it shares
	}
	return record.Short(f.id)
}

// settings fills the record.
func settings(spec *Spec, img *image.RunConfig, f *facts, c *compiled, mode string) error {
	r, cfg := c.rec, c.cfg
	r.ID, r.Name, r.Image, r.Rootfs, r.Network = f.id, spec.Name, spec.Image, spec.Rootfs, mode
	r.Networks = f.networks
	var err error
	if r.Ports, err = publish(spec, img, mode); err != nil {
		return err
	}
	r.Command = cfg.OCI.Process.Args
	r.Labels = map[string]string{}
	for _, m := range []map[string]string{img.Labels, spec.Labels} {
		for k, v := range m {
			r.Labels[k] = v
		}
	}
	r.AutoRemove, r.Copy = spec.AutoRemove, f.copy
	r.Restart = record.Restart{Policy: spec.Restart.Policy, Max: spec.Restart.MaxRetries}
	r.Cgroup = path.Join(f.base, f.id)
	r.Stdin, r.TTY = spec.Stdin, spec.TTY
	name := spec.Stop.Signal
	if name == "" {
		name = img.StopSignal
	}
	if name == "" {
		name = "SIGTERM"
	}
	sig, err := ParseSignal(name)
	if err != nil {
		return err
	}
	r.Stop = record.Stop{Signal: sig, Timeout: spec.Stop.Timeout}
	if r.Stop.Timeout == 0 {
		r.Stop.Timeout = defaultTimeout * time.Second
	}
	cfg.User = spec.User
	if cfg.User == "" {
		cfg.User = img.User
	}
	cfg.Groups, cfg.ReadOnly, cfg.StdinOnce = spec.Groups, spec.Security.ReadOnly, spec.StdinOnce
	cfg.Volatile = spec.AutoRemove && (spec.Restart.Policy == "" || spec.Restart.Policy == "no")
	cfg.Log = record.Log{Driver: spec.Log.Driver, MaxSize: spec.Log.MaxSize, MaxFile: spec.Log.MaxFile}
	cfg.Files.Hostname, cfg.Files.Domainname = cfg.OCI.Hostname, spec.Domainname
	cfg.Files.ExtraHosts = spec.ExtraHosts
	cfg.Files.DNS, cfg.Files.DNSSearch, cfg.Files.DNSOptions = spec.DNS.Servers, spec.DNS.Search, spec.DNS.Options
	cfg.Init = c.init
	cfg.Health, err = health(spec, img)
	return err
}

// process merges the Spec's process with the image's.
func process(spec *Spec, img *image.RunConfig, f *facts) (*specs.Process, error) {
	entry, cmd := img.Entrypoint, spec.Command
	if spec.Entrypoint != nil {
		entry = spec.Entrypoint
		if len(entry) == 1 && entry[0] == "" {
			entry = nil
		}
	}
	if len(cmd) == 0 && spec.Entrypoint == nil {
		cmd = img.Cmd
	}
	args := append(slices.Clone(entry), cmd...)
	if len(args) == 0 {
		return nil, fault.Invalid("no command: give one, or use an image that has ENTRYPOINT or CMD")
	}
	caps, err := capabilities(&spec.Security, f.host.caps)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{Args: args, Terminal: spec.TTY, Cwd: "/", NoNewPrivileges: spec.Security.NoNewPrivileges,
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}}
	if spec.Width > 0 && spec.Height > 0 {
		p.ConsoleSize = &specs.Box{Width: uint(spec.Width), Height: uint(spec.Height)}
	}
	for _, dir := range []string{img.WorkingDir, spec.Dir} {
		if dir != "" {
			p.Cwd = path.Clean(path.Join("/", dir))
		}
	}
	p.Env = environment(spec, img, f)
	score := spec.Resources.OOMScoreAdj
	p.OOMScoreAdj = &score // always set: a supervisor's own protection must not be inherited
	if a := spec.Security.AppArmor; a != Unconfined {
		p.ApparmorProfile = a
	}
	return p, nil
}

func environment(spec *Spec, img *image.RunConfig, f *facts) []string {
	env := []string{jail.Path, "HOSTNAME=" + hostname(spec, f, mode(spec, f))}
	if spec.TTY {
		env = append(env, "TERM=xterm")
	}
	for _, e := range slices.Concat(img.Env, spec.Env) {
		key, _, found := strings.Cut(e, "=")
		env = slices.DeleteFunc(env, func(o string) bool { return strings.HasPrefix(o, key+"=") })
		if found {
			env = append(env, e)
		}
	}
	return env
}

// confine hides what Docker hides.
func confine(spec *Spec, oci *specs.Spec) {
	if spec.Security.Privileged || spec.Security.UnmaskPaths {
		return
	}
	jail.Mask(oci)
}

// wordForWord is the Spec as it is kept for Inspect.
func wordForWord(spec *Spec) ([]byte, error) { return json.Marshal(spec) }
