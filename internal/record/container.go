package record

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Container is record.json: what a list shows, and what decides the
// container's life.
type Container struct {
	Version  int               `json:"version"`
	Seq      uint64            `json:"seq"`
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Image    string            `json:"image,omitempty"`       // as the caller named it
	ImageID  string            `json:"imageID,omitempty"`     // digest of the image's config
	Manifest string            `json:"manifest,omitempty"`    // digest of the image's manifest
	Layers   []string          `json:"layers,omitempty"`      // chain ids, bottom to top
	Rootfs   string            `json:"rootfs,omitempty"`      // instead of an image: a directory of the host
	Copy     bool              `json:"copy,omitempty"`        // the root is a plain copy of the layers: this machine has no overlay
	Mounted  []string          `json:"mountLayers,omitempty"` // chain ids of images that are mounted
	Command  []string          `json:"command,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Network  string            `json:"network"` // none, host, container:<id>, or the first of Networks
	Networks []Endpoint        `json:"networks,omitempty"`
	Ports    []Port            `json:"ports,omitempty"`

	Owned      bool          `json:"owned,omitempty"`
	Owner      *Owner        `json:"owner,omitempty"`
	Linger     time.Duration `json:"linger,omitempty"`
	AutoRemove bool          `json:"autoRemove,omitempty"`
	Restart    Restart       `json:"restart,omitzero"`
	Stop       Stop          `json:"stop"`
	Stopped    bool          `json:"stopped,omitempty"` // by a caller: policies do not start it again

	Cgroup      string `json:"cgroup"`                // absolute path in every hierarchy, recorded before it is made
	Removing    bool   `json:"removing,omitempty"`    // removal began: whoever finds it so finishes it
	WithVolumes bool   `json:"withVolumes,omitempty"` // with Removing: its anonymous volumes go too
	Stdin       bool   `json:"stdin,omitempty"`
	TTY         bool   `json:"tty,omitempty"`
	Volumes     []Use  `json:"volumes,omitempty"`

	Build  bool    `json:"build,omitempty"`  // the command of a build: it has no name, and lists pass it over
	Update *Update `json:"update,omitempty"` // of what config.json and spec.json say
}

// Update are limits that were changed since Create. Being part of the record,
// they change with it, at once.
type Update struct {
	Resources *specs.LinuxResources `json:"resources"`
	Limits    []Limit               `json:"limits,omitempty"`
	Spec      json.RawMessage       `json:"spec"` // Resources of the Spec
}

// Wired says whether the container has a network namespace of its own that
// networks are attached to, be it none of them now.
func (c *Container) Wired() bool {
	return c.Network != "" && c.Network != "none" && c.Network != "host" && !strings.HasPrefix(c.Network, "container:")
}

// Owner is the process that made an owned container: until a supervisor holds
// its pipe, its life is all that says whether the container is wanted.
type Owner struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // start time in clock ticks since boot
}

// Use is a named or anonymous volume that the container uses.
type Use struct {
	Name      string `json:"name"`
	Target    string `json:"target"`
	Anonymous bool   `json:"anonymous,omitempty"` // goes with the container
}

// Endpoint is a network to be attached to.
type Endpoint struct {
	Network   string       `json:"network"`             // name
	Addresses []netip.Addr `json:"addresses,omitempty"` // at most one of each family; they stay reserved
	MAC       string       `json:"mac,omitempty"`
	Aliases   []string     `json:"aliases,omitempty"`
	Priority  int          `json:"priority,omitempty"` // the highest gives the default route
	Bandwidth Bandwidth    `json:"bandwidth,omitzero"`
}

// Bandwidth limits what a container receives and sends, in bytes per second
// and bytes. Zero is no limit.
type Bandwidth struct {
	Ingress      uint64 `json:"ingress,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	Egress       uint64 `json:"egress,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// Port is a port to be published.
type Port struct {
	Protocol  string     `json:"protocol"`
	Host      netip.Addr `json:"host,omitzero"`      // zero: all addresses of both families
	HostPort  uint16     `json:"hostPort,omitempty"` // 0: any free one
	HostEnd   uint16     `json:"hostEnd,omitempty"`  // with HostPort: any free one of this range
	Container uint16     `json:"container"`
}

// Restart is the policy: "no", "on-failure", "always", "unless-stopped".
type Restart struct {
	Policy string `json:"policy,omitempty"`
	Max    int    `json:"max,omitempty"` // of on-failure; 0: no limit
}

// Stop says how to ask the container to end.
type Stop struct {
	Signal  int           `json:"signal"`
	Timeout time.Duration `json:"timeout"` // then SIGKILL; negative: wait for ever
}

// Config is config.json: with Container all that a shim needs.
type Config struct {
	Version   int         `json:"version"`
	OCI       *specs.Spec `json:"oci"` // without Root.Path and the user's ids
	User      string      `json:"user,omitempty"`
	Groups    []string    `json:"groups,omitempty"`
	Customed  bool        `json:"customised,omitempty"` // the caller changed OCI: its user is final
	ReadOnly  bool        `json:"readOnly,omitempty"`
	Volatile  bool        `json:"volatile,omitempty"` // the writable layer need not survive a crash
	Seccomp   string      `json:"seccomp,omitempty"`  // file of the compiled filter; empty: unconfined
	StdinOnce bool        `json:"stdinOnce,omitempty"`
	Log       Log         `json:"log"`
	CopyUp    []CopyUp    `json:"copyUp,omitempty"`
	Images    []Image     `json:"images,omitempty"` // that mounts of the container come from
	Init      bool        `json:"init,omitempty"`   // a reaper of ours is process 1
	Files     Files       `json:"files"`
	Limits    []Limit     `json:"limits,omitempty"`
	Health    *Health     `json:"health,omitempty"`
	Build     *Build      `json:"build,omitempty"`
}

// Limit is a cgroup value that must be in force, else the start fails:
// libcontainer swallows some failures to apply limits.
type Limit struct {
	What  string `json:"what"`            // memory, pids, cpu, shares, cpuset, blkio
	Value int64  `json:"value,omitempty"` // of memory: bytes
	Why   string `json:"why"`             // as the caller asked for it
}

// Image is an image to mount read-only at Dir, which lies in the container's
// directory; a bind mount takes it, or a part of it, into the container.
type Image struct {
	Layers []string `json:"layers"` // chain ids, bottom to top
	Dir    string   `json:"dir"`
}

// CopyUp says that a volume, while empty, is filled from the image.
type CopyUp struct {
	Source string `json:"source"`           // directory on the host
	Target string `json:"target"`           // path in the container
	Finish bool   `json:"finish,omitempty"` // do not begin a fill, only finish one that was cut short
}

// Files says which of /etc/hostname, hosts and resolv.conf are made.
type Files struct {
	Hostname   string   `json:"hostname,omitempty"`
	Domainname string   `json:"domainname,omitempty"`
	ExtraHosts []string `json:"extraHosts,omitempty"` // name:address
	DNS        []string `json:"dns,omitempty"`
	DNSSearch  []string `json:"dnsSearch,omitempty"`
	DNSOptions []string `json:"dnsOptions,omitempty"`
	Skip       []string `json:"skip,omitempty"` // targets that a mount of the caller covers
}

// Log configures the container's output on disk.
type Log struct {
	Driver  string `json:"driver,omitempty"` // json-file or none
	MaxSize int64  `json:"maxSize,omitempty"`
	MaxFile int    `json:"maxFile,omitempty"`
}

// Status is where a container is in its life.
type Status string

const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead" // damaged: it can only be removed
)

// Run is run.json: the last start.
type Run struct {
	Version   int       `json:"version"`
	Seq       uint64    `json:"seq"` // of its start event; 0: the process does not run yet
	Boot      string    `json:"boot"`
	Status    Status    `json:"status"` // running, paused, restarting
	Pid       int       `json:"pid,omitempty"`
	PidStart  uint64    `json:"pidStart,omitempty"` // start time of Pid in clock ticks: tells it from a later process
	Shim      int       `json:"shim"`
	ShimStart uint64    `json:"shimStart"`
	Started   time.Time `json:"started,omitzero"`
	Restarts  int       `json:"restarts,omitempty"`
	Health    string    `json:"health,omitempty"` // starting, healthy, unhealthy; empty: no check
}

// Exit is exit.json: the last exit, also of a start that failed.
type Exit struct {
	Version   int       `json:"version"`
	Seq       uint64    `json:"seq"`
	Code      int       `json:"code"`
	Signal    int       `json:"signal,omitempty"`
	OOMKilled bool      `json:"oomKilled,omitempty"`
	Unknown   bool      `json:"unknown,omitempty"` // the supervisor was killed: how it ended was seen by nobody
	Again     bool      `json:"again,omitempty"`   // the policy demands another run, which the supervisor was about to begin
	Boot      string    `json:"boot,omitempty"`    // in which it ended
	Error     string    `json:"error,omitempty"`   // why a start failed
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished"`
	Restarts  int       `json:"restarts,omitempty"`
}

// merge encodes v over old: fields of old that this version does not know
// stay as they are.
func merge(old []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || len(old) == 0 {
		return data, err
	}
	var was, now map[string]json.RawMessage
	if json.Unmarshal(old, &was) != nil || json.Unmarshal(data, &now) != nil {
		return data, nil
	}
	known := fieldNames(v)
	added := false
	for k, raw := range was {
		if !known[k] {
			now[k], added = raw, true
		}
	}
	if !added {
		return data, nil
	}
	return json.Marshal(now)
}
