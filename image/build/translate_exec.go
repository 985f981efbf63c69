package build

import (
	"net"
	"slices"

	"github.com/moby/buildkit/solver/pb"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

func (t *translation) exec(e *pb.ExecOp, inputs int) (op.Op, error) {
	m := e.GetMeta()
	if m == nil || len(m.Args) == 0 {
		return nil, fault.Invalid("malformed command: it has no arguments")
	}
	x := &op.Exec{
		Args: m.Args, Env: m.Env, Dir: m.Cwd, User: m.User, Hostname: m.Hostname, CgroupParent: m.CgroupParent,
		StubsRecursive: m.RemoveMountStubsRecursive,
	}
	for _, c := range m.ValidExitCodes {
		x.ExitCodes = append(x.ExitCodes, int(c))
	}
	for _, u := range m.Ulimit {
		x.Ulimits = append(x.Ulimits, op.Ulimit{Name: u.GetName(), Soft: u.GetSoft(), Hard: u.GetHard()})
	}
	for _, h := range m.ExtraHosts {
		host := op.Host{Name: h.GetHost(), Address: h.GetIP()}
		if net.ParseIP(hostGateway).Equal(net.ParseIP(host.Address)) {
			host.Address = "host-gateway"
		}
		x.ExtraHosts = append(x.ExtraHosts, host)
	}
	x.Proxy = proxy(m.ProxyEnv)
	for _, s := range e.Secretenv {
		x.SecretEnv = append(x.SecretEnv, op.SecretEnv{ID: s.GetID(), Name: s.GetName(), Optional: s.GetOptional()})
	}
	if err := t.privileges(e, x); err != nil {
		return nil, err
	}
	for _, m := range e.Mounts {
		mount, err := mount(m, inputs)
		if err != nil {
			return nil, err
		}
		x.Mounts = append(x.Mounts, mount)
	}
	if !slices.ContainsFunc(x.Mounts, func(m op.Mount) bool { return m.Target == "/" }) {
		return nil, fault.Invalid("malformed command: it has no root")
	}
	return x, nil
}

// privileges checks what the request must allow: nobody else does.
func (t *translation) privileges(e *pb.ExecOp, x *op.Exec) error {
	switch e.Network {
	case pb.NetMode_UNSET:
	case pb.NetMode_NONE:
		x.Network = "none"
	case pb.NetMode_HOST:
		x.Network = "host"
		if !t.allowed.hostNetwork {
			return fault.Kind(errNotAllowed, `it wants the host's network: list %q in Request.Allow to let it`, AllowHostNetwork)
		}
	default:
		return unsupported("network mode %s", e.Network)
	}
	switch e.Security {
	case pb.SecurityMode_SANDBOX:
	case pb.SecurityMode_INSECURE:
		x.Insecure = true
		if !t.allowed.insecure {
			return fault.Kind(errNotAllowed, `it wants all privileges (--security=insecure): list %q in Request.Allow to let it`, AllowInsecure)
		}
	default:
		return unsupported("security mode %s", e.Security)
	}
	for _, d := range e.CdiDevices {
		x.Devices = append(x.Devices, op.Device{Name: d.GetName(), Optional: d.GetOptional()})
		if !t.allowed.device(d.GetName()) {
			return fault.Kind(errNotAllowed, `it wants the device %s: list %q in Request.Allow to let it`, d.GetName(), AllowDevice+"="+d.GetName())
		}
	}
	return nil
}

// proxy lists both spellings, as programs read the one or the other.
func proxy(p *pb.ProxyEnv) []string {
	var env []string
	for _, v := range []struct{ upper, lower, value string }{
		{"HTTP_PROXY", "http_proxy", p.GetHttpProxy()},
		{"HTTPS_PROXY", "https_proxy", p.GetHttpsProxy()},
		{"FTP_PROXY", "ftp_proxy", p.GetFtpProxy()},
		{"NO_PROXY", "no_proxy", p.GetNoProxy()},
		{"ALL_PROXY", "all_proxy", p.GetAllProxy()},
	} {
		if v.value != "" {
			env = append(env, v.upper+"="+v.value, v.lower+"="+v.value)
		}
	}
	return env
}

func mount(m *pb.Mount, inputs int) (op.Mount, error) {
	o := op.Mount{Target: m.Dest, Input: int(m.Input), Selector: m.Selector, Output: int(m.Output), ReadOnly: m.Readonly}
	if o.Input < op.Scratch || o.Input >= inputs {
		return o, fault.Invalid("malformed mount at %s: there is no input %d", m.Dest, m.Input)
	}
	if o.Output < 0 || m.MountType != pb.MountType_BIND {
		o.Output = op.Scratch // only a tree can be given on; the frontend leaves 0 there
	}
	switch m.MountType {
	case pb.MountType_BIND:
		o.Type = op.Bind
	case pb.MountType_CACHE:
		o.Type, o.CacheID = op.Cache, m.CacheOpt.GetID()
		if o.CacheID == "" {
			o.CacheID = m.Dest
		}
		o.Sharing = map[pb.CacheSharingOpt]string{
			pb.CacheSharingOpt_SHARED: op.Shared, pb.CacheSharingOpt_PRIVATE: op.Private, pb.CacheSharingOpt_LOCKED: op.Locked,
		}[m.CacheOpt.GetSharing()]
		if o.Sharing == "" {
			return o, unsupported("a cache mount with sharing %s", m.CacheOpt.GetSharing())
		}
	case pb.MountType_SECRET:
		s := m.SecretOpt
		o.Type, o.ID, o.Optional = op.Secret, s.GetID(), s.GetOptional()
		o.UID, o.GID, o.Mode = s.GetUid(), s.GetGid(), s.GetMode()
	case pb.MountType_SSH:
		s := m.SSHOpt
		o.Type, o.ID, o.Optional = op.SSH, s.GetID(), s.GetOptional()
		o.UID, o.GID, o.Mode = s.GetUid(), s.GetGid(), s.GetMode()
	case pb.MountType_TMPFS:
		o.Type, o.Size = op.Tmpfs, m.TmpfsOpt.GetSize()
	default:
		return o, unsupported("a mount of type %s", m.MountType)
	}
	return o, nil
}
