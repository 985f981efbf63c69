package run

import (
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/jail"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/shim"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Hostname is that of commands that ask for none, as BuildKit's.
const Hostname = "buildkitsandbox"

// compiled is what a Step becomes.
type compiled struct {
	step    *Step
	base    string // control group of the Root
	dir     string // of the container
	rec     *record.Container
	cfg     *record.Config
	secrets *shim.Secrets
	agents  []agent
}

// compile looks at everything that a supervisor must be told.
func (r *Runner) compile(ctx context.Context, s *Step) (*compiled, error) {
	if host.NoOverlay() {
		return nil, fault.Unsupported("this machine has no overlay file system, without which nothing can be built: load the module overlay (modprobe overlay)")
	}
	if err := check(s); err != nil {
		return nil, err
	}
	c := &compiled{step: s, secrets: &shim.Secrets{}}
	if err := r.record(c); err != nil {
		return nil, err
	}
	if err := c.process(ctx); err != nil {
		return nil, err
	}
	if err := c.limits(); err != nil {
		return nil, err
	}
	if err := c.mounts(ctx, r.root); err != nil {
		return nil, err
	}
	return c, c.secure(ctx, r.root)
}

// check refuses what cannot be.
func check(s *Step) error {
	e := s.Exec
	if len(e.Args) == 0 {
		return fault.Invalid("no command")
	}
	switch e.Network {
	case "", "host", "none":
	default:
		return fault.Invalid("network %q: a command runs with the default network, host or none", e.Network)
	}
	for _, h := range e.ExtraHosts {
		if h.Name == "" || net.ParseIP(h.Address) == nil && h.Address != "host-gateway" {
			return fault.Invalid("extra host %q with address %q: give a name and an IP address, or host-gateway", h.Name, h.Address)
		}
	}
	for _, v := range slices.Concat(e.Env, e.Proxy) {
		if v == "" || v[0] == '=' || strings.ContainsRune(v, 0) {
			return fault.Invalid("environment %q: give NAME=value", v)
		}
	}
	for _, d := range e.Devices {
		if !d.Optional {
			return fault.Unsupported("device %s: devices of CDI are not available in builds yet", d.Name)
		}
	}
	mounts := len(slices.DeleteFunc(slices.Clone(e.Mounts), func(m op.Mount) bool { return m.Target == "/" }))
	if mounts != len(s.Mounts) {
		return fmt.Errorf("%d mounts of a command, and sources of %d", mounts, len(s.Mounts))
	}
	return runnable(s.Platform)
}

// record fills in what the store keeps while the command runs.
func (r *Runner) record(c *compiled) error {
	e := c.step.Exec
	st, err := proc.ReadStat(os.Getpid())
	if err != nil {
		return err
	}
	if c.base, err = r.group(); err != nil {
		return err
	}
	rec := &record.Container{ID: record.NewID(), Build: true, Command: e.Args, Labels: map[string]string{record.LabelBuild: "true"},
		Layers: c.step.Root.Layers, AutoRemove: true, Owned: true, Owner: &record.Owner{Pid: os.Getpid(), Start: st.StartTime},
		Stop: record.Stop{Signal: 9, Timeout: time.Second}, Network: e.Network}
	if rec.Network == "" {
		rec.Network = networks.Default
		rec.Networks = []record.Endpoint{{Network: networks.Default}} // made when it is needed first
	}
	group := c.base
	if e.CgroupParent != "" {
		if group, err = cgroup.Base(e.CgroupParent, r.root.ID); err != nil {
			return fault.Invalid("%w", err)
		}
	}
	rec.Cgroup = path.Join(group, rec.ID)
	c.rec, c.dir = rec, r.root.Path(rec.ID)
	return nil
}

// process compiles what is executed, as whom and where.
func (c *compiled) process(ctx context.Context) error {
	e, h := c.step.Exec, host.Look()
	oci := &specs.Spec{Version: specs.Version, Root: &specs.Root{}, Hostname: e.Hostname,
		Linux: &specs.Linux{Namespaces: jail.Namespaces(e.Network != "host", h.Unified), Resources: &specs.LinuxResources{}}}
	if oci.Hostname == "" {
		oci.Hostname = Hostname
	}
	caps := jail.Caps
	if e.Insecure {
		caps = host.Capabilities()
	} else {
		jail.Mask(oci)
	}
	score := 0 // a supervisor's own protection must not be inherited
	oci.Process = &specs.Process{Args: e.Args, Cwd: path.Clean(path.Join("/", e.Dir)), OOMScoreAdj: &score,
		Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}}
	for _, u := range e.Ulimits {
		if err := jail.Ulimit(oci.Process, u.Name, u.Soft, u.Hard); err != nil {
			return err
		}
	}
	c.cfg = &record.Config{OCI: oci, User: e.User, Volatile: true, Log: record.Log{Driver: "none"}, Build: &record.Build{KeepParents: !e.StubsRecursive}}
	f := &c.cfg.Files
	f.Hostname, f.Skip = oci.Hostname, []string{"hostname"} // BuildKit mounts none
	for _, x := range e.ExtraHosts {
		f.ExtraHosts = append(f.ExtraHosts, x.Name+":"+x.Address)
	}
	if e.Network == "none" {
		f.ExtraHosts = append(f.ExtraHosts, f.Hostname+":127.0.0.1")
	}
	return c.environment(ctx)
}

// environment merges the command's variables; secret ones travel apart.
func (c *compiled) environment(ctx context.Context) error {
	e := c.step.Exec
	env := []string{jail.Path}
	for _, v := range slices.Concat(e.Proxy, e.Env) { // the command's own wins
		env = set(env, v)
	}
	for _, s := range e.SecretEnv {
		value, ok, err := c.secret(ctx, s.ID, s.Optional)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if slices.Contains(value, 0) {
			return fault.Invalid("the secret %q has a zero byte: it cannot be the environment variable %s; mount it as a file", s.ID, s.Name)
		}
		env = slices.DeleteFunc(env, func(o string) bool { return strings.HasPrefix(o, s.Name+"=") })
		c.secrets.Env = append(c.secrets.Env, s.Name+"="+string(value))
	}
	c.cfg.OCI.Process.Env = env
	return nil
}

func set(env []string, v string) []string {
	key, _, found := strings.Cut(v, "=")
	env = slices.DeleteFunc(env, func(o string) bool { return strings.HasPrefix(o, key+"=") })
	if found {
		env = append(env, v)
	}
	return env
}

func (c *compiled) secret(ctx context.Context, id string, optional bool) (value []byte, ok bool, err error) {
	if c.step.Secrets != nil {
		value, ok, err = c.step.Secrets(ctx, id)
	}
	if err == nil && !ok && !optional {
		err = fault.Invalid("the secret %q is required and was not given", id)
	}
	return value, ok, err
}

func (c *compiled) limits() error {
	in := c.step.Limits
	if in == nil {
		return nil
	}
	h := host.Look()
	l := &jail.Limits{Machine: jail.Machine{CPUs: h.CPUs, SwapLimits: h.SwapLimits}, Resources: c.cfg.OCI.Linux.Resources}
	l.Machine.Online, l.Machine.Nodes = host.Online()
	if err := l.Memory(jail.Memory{Limit: in.Memory, Swap: in.MemorySwap}); err != nil {
		return err
	}
	cpu := jail.CPU{Shares: in.CPUShares, Quota: in.CPUQuota, Period: in.CPUPeriod, CPUs: in.CPUs, Mems: in.Mems,
		Asked: fmt.Sprintf("the limit of %d µs of processor time in %d µs", in.CPUQuota, in.CPUPeriod)}
	if err := l.CPU(cpu); err != nil {
		return err
	}
	c.cfg.Limits = l.Checked
	return nil
}

// secure chooses devices and the seccomp filter.
func (c *compiled) secure(ctx context.Context, root *record.Root) error {
	oci := c.cfg.OCI
	if c.step.Exec.Insecure {
		all, err := host.Device("/dev", "/dev")
		jail.AllDevices(oci, all)
		return err
	}
	jail.Devices(oci)
	profile, err := jail.Profile(oci, "")
	if err != nil {
		return err
	}
	c.cfg.Seccomp, err = jail.Filter(ctx, root.Dir, profile)
	return err
}
