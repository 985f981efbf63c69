package cni

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/nft"
)

// plugin is a built-in one.
type plugin interface {
	validate(conf []byte) error
	add(*call) (*types100.Result, error)
	check(*call) error
	del(*call) error
	gc(*call, []Key) error
	status(*call) error
}

// run is one operation on one network: it is the invoke.Exec that libcni gets,
// and what the plugins of a chain know beyond their configuration.
type run struct {
	version.PluginDecoder
	c    *CNI
	list *libcni.NetworkConfigList
	plan plan
	req  *Request

	// lost means that libcni's cache knows nothing of the attachment.
	lost bool

	// Of an ADD that is being rolled back, which has no cached result either.
	undoing  bool
	hostLink string     // the link that was made
	ports    []nft.Port // those that were added
}

const scheme = "builtin:"

func (r *run) FindInPath(typ string, paths []string) (string, error) {
	switch how := r.plan[typ]; how {
	case "":
		return invoke.FindInPath(typ, paths)
	case Builtin:
		return scheme + typ, nil
	default:
		return how, nil
	}
}

func (r *run) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	typ, ok := strings.CutPrefix(path, scheme)
	if !ok {
		return runBinary(ctx, path, stdin, forOthers(environ))
	}
	x := &call{ctx: ctx, run: r, conf: stdin}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case "CNI_COMMAND":
			x.command = value
		case "CNI_CONTAINERID":
			x.id = value
		case "CNI_NETNS":
			x.netns = value
		case "CNI_IFNAME":
			x.ifname = value
		}
	}
	return x.do(typ)
}

// forOthers rewrites a namespace given by a path that means this process.
func forOthers(environ []string) []string {
	for i, e := range environ {
		for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
			if rest, ok := strings.CutPrefix(e, "CNI_NETNS="+self); ok {
				environ[i] = fmt.Sprintf("CNI_NETNS=/proc/%d/%s", os.Getpid(), rest)
			}
		}
	}
	return environ
}

// call is one command for one built-in plugin.
type call struct {
	*run
	ctx     context.Context
	conf    []byte // JSON, with what libcni put into it
	command string

	id, netns, ifname string
	prev              *types100.Result // of the plugin before; nil for the first, and where there was no cache
}

func (x *call) key() Key { return Key{ID: x.id, IfName: x.ifname} }

// owner is the comment of the attachment's elements in the filter.
func (x *call) owner() string { return ownerOf(x.list.Name, x.key()) }

func ownerOf(network string, k Key) string { return network + "/" + k.ID + "/" + k.IfName }

// do runs the command. A panic is an error like others: this process is
// somebody else's program.
func (x *call) do(typ string) (out []byte, err error) {
	defer recoverTo(&err, typ)
	p := builtin(typ)
	if p == nil {
		return nil, fault.Unsupported("plugin %s is not built into this program", typ)
	}
	if err := x.readPrevious(); err != nil {
		return nil, err
	}
	switch x.command {
	case "ADD":
		result, err := p.add(x)
		if err != nil {
			return nil, err
		}
		v, err := (&version.ConfigDecoder{}).Decode(x.conf)
		if err != nil {
			return nil, err
		}
		converted, err := result.GetAsVersion(v)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = converted.PrintTo(&b)
		return b.Bytes(), err
	case "CHECK":
		return nil, p.check(x)
	case "DEL":
		return nil, p.del(x)
	case "GC":
		valid, err := validOf(x.conf)
		if err != nil {
			return nil, err
		}
		return nil, p.gc(x, valid)
	case "STATUS":
		return nil, p.status(x)
	case "VERSION":
		var b bytes.Buffer
		err := version.All.Encode(&b)
		return b.Bytes(), err
	}
	return nil, fault.Unsupported("plugin %s does not know the command %s", typ, x.command)
}

// recoverTo turns a panic into an error, with the place: it is a bug.
func recoverTo(err *error, what string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("built-in plugin %s panicked: %v\n%s", what, p, debug.Stack())
	}
}

// readPrevious decodes prevResult, whatever version it has.
func (x *call) readPrevious() error {
	var conf struct {
		CNIVersion string         `json:"cniVersion"`
		Previous   map[string]any `json:"prevResult"`
	}
	if err := unmarshal(x.conf, &conf); err != nil || conf.Previous == nil {
		return err
	}
	if v, _ := conf.Previous["cniVersion"].(string); v == "" {
		conf.Previous["cniVersion"] = conf.CNIVersion
	}
	result, err := create.CreateFromBytes(marshal(conf.Previous))
	if err != nil {
		return fmt.Errorf("prevResult: %w", err)
	}
	if x.prev, err = types100.GetResult(result); err == nil && len(x.prev.Interfaces)+len(x.prev.IPs) == 0 {
		x.prev = nil // what libcni makes of a damaged cache
	}
	return err
}

// ipamDo runs the IPAM plugin of x's configuration, in this process or not.
func (x *call) ipamDo(command, typ string) (*types100.Result, error) {
	path, err := x.FindInPath(typ, x.c.opts.Path)
	if err != nil {
		return nil, err
	}
	args := &invoke.Args{Command: command, ContainerID: x.id, NetNS: x.netns, IfName: x.ifname,
		PluginArgs: x.req.args(), Path: strings.Join(x.c.opts.Path, string(os.PathListSeparator))}
	if command != "ADD" {
		return nil, invoke.ExecPluginWithoutResult(x.ctx, path, x.conf, args, x.run)
	}
	result, err := invoke.ExecPluginWithResult(x.ctx, path, x.conf, args, x.run)
	if err != nil {
		return nil, err
	}
	return types100.GetResult(result)
}

// ipamOptional is ipamDo for commands that a binary knows since version 1.1.0
// of the specification.
func (x *call) ipamOptional(command, typ string) error {
	if x.plan[typ] != Builtin {
		if knows, _ := version.GreaterThanOrEqualTo(x.list.CNIVersion, "1.1.0"); !knows {
			return nil
		}
	}
	_, err := x.ipamDo(command, typ)
	return err
}
