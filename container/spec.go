package container

import (
	"time"

	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec says what a container shall be. It is plain data, the same as JSON;
// the zero value of every field is its default. Create compiles it once: a
// later change of the image, or of a default of this package, does not change
// a container that exists.
type Spec struct {
	Name   string `json:"name,omitempty"`   // unique in the store; empty: an adjective and a noun
	Image  string `json:"image,omitempty"`  // reference, id or beginning of an id
	Rootfs string `json:"rootfs,omitempty"` // instead of Image: a directory of the host, used as it is and changed in place

	Process

	Hostname   string            `json:"hostname,omitempty"` // empty: the first 12 digits of the id
	Domainname string            `json:"domainname,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`     // laid over those of the image
	ExtraHosts []string          `json:"extraHosts,omitempty"` // NAME:ADDRESS; the address host-gateway is this host's
	DNS        DNS               `json:"dns,omitzero"`

	Mounts   []volume.Mount     `json:"mounts,omitempty"`
	Networks []network.Endpoint `json:"networks,omitempty"` // empty: the default network, network.Bridge

	// Ports are published on the host. Env and arguments may name the host's
	// port, which a process must often announce: {{port "9092/tcp"}}.
	Ports      []network.Port `json:"ports,omitempty"`
	Expose     []string       `json:"expose,omitempty"`     // further ports that the image's process serves: "80", "53/udp", "7000-7010"
	PublishAll bool           `json:"publishAll,omitempty"` // publish all exposed ports, on free ports of all the host's addresses

	Resources Resources `json:"resources,omitzero"`
	Security  Security  `json:"security,omitzero"`
	Restart   Restart   `json:"restart,omitzero"`
	Stop      Stop      `json:"stop,omitzero"`
	Health    *Health   `json:"health,omitempty"` // nil: the image's check, if it has one
	Log       Log       `json:"log,omitzero"`

	Init       bool `json:"init,omitempty"`       // run a small reaper as process 1, the command as its child
	AutoRemove bool `json:"autoRemove,omitempty"` // remove it and its anonymous volumes at its end
}

// Process is the container's first process. What is empty comes from the
// image.
type Process struct {
	Entrypoint []string `json:"entrypoint,omitempty"` // non-nil and empty, or one empty string: none
	Command    []string `json:"command,omitempty"`
	Env        []string `json:"env,omitempty"`    // KEY=value, laid over the image's; KEY alone takes one away
	Dir        string   `json:"dir,omitempty"`    // made when missing
	User       string   `json:"user,omitempty"`   // name or uid, with ":group" or ":gid" if wanted
	Groups     []string `json:"groups,omitempty"` // supplementary, by name or gid
	TTY        bool     `json:"tty,omitempty"`
	Width      uint16   `json:"width,omitempty"` // of the terminal, in cells
	Height     uint16   `json:"height,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"`     // keep stdin open for attached clients; else it is /dev/null
	StdinOnce  bool     `json:"stdinOnce,omitempty"` // close it when the first client ends its input
}

// DNS is asked for the names that are no container's, instead of what the
// host's /etc/resolv.conf says.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// Resources are limits. Zero means no limit of its own.
type Resources struct {
	Memory            int64    `json:"memory,omitempty"`            // bytes, at least 6 MiB
	MemoryReservation int64    `json:"memoryReservation,omitempty"` // bytes, below Memory: what it keeps under pressure
	MemorySwap        int64    `json:"memorySwap,omitempty"`        // bytes of memory and swap together; 0: twice Memory; -1: no limit
	CPUs              float64  `json:"cpus,omitempty"`              // processors' worth of time
	CPUShares         uint64   `json:"cpuShares,omitempty"`         // weight against others; 1024 is the kernel's default
	CPUSet            string   `json:"cpuset,omitempty"`            // processors it may use: "0-2,4"
	CPUSetMems        string   `json:"cpusetMems,omitempty"`        // memory nodes it may use
	Pids              int64    `json:"pids,omitempty"`              // processes and threads; -1: no limit
	BlkioWeight       uint16   `json:"blkioWeight,omitempty"`       // 10 to 1000
	ShmSize           int64    `json:"shmSize,omitempty"`           // bytes of /dev/shm; 0: 64 MiB
	OOMScoreAdj       int      `json:"oomScoreAdj,omitempty"`       // -1000 to 1000
	Ulimits           []Ulimit `json:"ulimits,omitempty"`
	Devices           []Device `json:"devices,omitempty"`

	Sysctls map[string]string `json:"sysctls,omitempty"` // of namespaces that are the container's own
}

// Ulimit is a resource limit of each process, by Docker's name: "nofile".
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"` // -1: unlimited
	Hard int64  `json:"hard"`
}

// Device is a device of the host that the container may use.
type Device struct {
	Path        string `json:"path"`                  // on the host; of a directory, every device in it
	Target      string `json:"target,omitempty"`      // in the container; empty: the same
	Permissions string `json:"permissions,omitempty"` // of r, w, m; empty: all
}

// Security is how the container is confined. The zero value is Docker's
// default: 14 capabilities, a seccomp filter, masked and read-only paths.
type Security struct {
	Privileged      bool     `json:"privileged,omitempty"` // all capabilities and devices, no filter, no masks
	CapAdd          []string `json:"capAdd,omitempty"`     // "NET_ADMIN", "CAP_NET_ADMIN" or "ALL"
	CapDrop         []string `json:"capDrop,omitempty"`
	NoNewPrivileges bool     `json:"noNewPrivileges,omitempty"`
	ReadOnly        bool     `json:"readOnly,omitempty"` // the root filesystem
	Seccomp         string   `json:"seccomp,omitempty"`  // empty: the default; Unconfined; or a profile, as JSON
	AppArmor        string   `json:"apparmor,omitempty"` // name of a loaded profile; Unconfined
	UnmaskPaths     bool     `json:"unmaskPaths,omitempty"`
}

// Unconfined switches a security mechanism off.
const Unconfined = "unconfined"

// Restart says when a supervisor starts the container again.
type Restart struct {
	Policy     string `json:"policy,omitempty"`     // "no", "on-failure", "always", "unless-stopped"
	MaxRetries int    `json:"maxRetries,omitempty"` // of on-failure; 0: no limit
}

// Stop says how the container is asked to end.
type Stop struct {
	Signal  string        `json:"signal,omitempty"`  // empty: the image's, else SIGTERM
	Timeout time.Duration `json:"timeout,omitempty"` // then SIGKILL; 0: 10 s; negative: wait for ever
}

// Log says what becomes of the container's output.
type Log struct {
	Driver  string `json:"driver,omitempty"`  // "json-file" (default) or "none"
	MaxSize int64  `json:"maxSize,omitempty"` // bytes of one file; 0: no limit
	MaxFile int    `json:"maxFile,omitempty"` // files kept; 0: 1
}

// CreateOptions are what is no property of the container.
type CreateOptions struct {
	// Customize changes the compiled OCI configuration before it is stored.
	// It runs once; restarts use its result, and Spec.User is not looked up
	// again. For what Spec has no field for.
	Customize func(*specs.Spec) error
	// Owned binds the container's life to this Engine: it is killed when the
	// Engine closes or its process dies, by whatever cause.
	Owned bool
	// Linger is how long an owned container outlives its last owner.
	Linger time.Duration
}
