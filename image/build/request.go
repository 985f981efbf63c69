package build

import (
	"io"
	"io/fs"
	"time"
)

// Request says what to build. The zero value builds nothing: a Dockerfile is
// needed, in the Context or inline. A Request may be used again, except for
// streams in it.
type Request struct {
	// Context is what COPY and ADD copy from. The zero value is an empty one.
	Context Context
	// Dockerfile is the path of the Dockerfile in the Context, or an absolute
	// path of this machine. "" means Dockerfile, or dockerfile if that is what
	// there is. What a file called <Dockerfile>.dockerignore beside it lists,
	// else .dockerignore of the Context, is no part of the Context.
	Dockerfile string
	// Inline is the Dockerfile's text. Dockerfile is then the name it has in
	// messages.
	Inline []byte
	// Contexts are more trees, for FROM, COPY --from and RUN --mount=from by
	// these names. They win over stages and images of the same name.
	Contexts map[string]Context

	Target    string            // stage to build; "" means the last
	Args      map[string]string // values of ARG, and of proxies: HTTP_PROXY ...
	Labels    map[string]string // of the image
	Tags      []string          // names that the image gets in the store: "shop:1.2"
	Platforms []string          // such as "linux/arm64"; several make an index; none means the host's

	NoCache       bool     // execute everything
	NoCacheFilter []string // execute what these stages do
	Pull          Pull     // when to ask registries for base images

	Secrets map[string]Secret // for RUN --mount=type=secret,id=...
	SSH     map[string]SSH    // agents for RUN --mount=type=ssh,id=...; "default" where no id is given

	Network      string   // of commands: "" is a bridge network, "none", or "host"
	ExtraHosts   []string // NAME:ADDRESS; the address host-gateway is this host's
	Hostname     string   // of commands
	ShmSize      int64    // bytes of /dev/shm; 0: 64 MiB
	Ulimits      []Ulimit // of commands
	CgroupParent string   // where commands run; "": as containers
	Resources    Resources
	// Allow lists what a Dockerfile may not have unless its builder says so:
	// AllowHostNetwork, AllowInsecure, AllowDevice, or AllowDevice + "=NAME" for
	// one device.
	Allow []string

	// Outputs are where the result goes. None means the store.
	Outputs []Output
	// CacheFrom are caches that other builds wrote: what they have is not
	// executed.
	CacheFrom []Cache
	// CacheTo are caches that this build writes.
	CacheTo []Cache

	// Epoch is what SOURCE_DATE_EPOCH says: the time of the image, and of files
	// that are newer. With it, two builds of the same sources give the same
	// digests. Nil: the argument SOURCE_DATE_EPOCH in Args, if there is one.
	Epoch *time.Time

	// Progress is told what happens. Calls do not overlap; the build waits for
	// them.
	Progress func(Event)
}

// Context is a tree of files: one of its fields, or none for an empty tree.
type Context struct {
	Dir string // a directory of this machine
	FS  fs.FS  // copied to disk for the time of the build, when it is needed
	// Tar is an archive, compressed or not, that is read to its end.
	Tar io.Reader
	// URL is a git repository (https://host/repo.git#branch:directory,
	// git@host:repo.git), an archive or a Dockerfile.
	URL string

	// Image is an image by name. Only for Contexts.
	Image string
	// Layout is a directory with an OCI image layout, of which Ref is a tag or
	// a digest; "" means the only image in it. Only for Contexts.
	Layout, Ref string
	// Result is what another build put into the store. Only for Contexts.
	Result *Result
}

// Pull says when registries are asked for base images.
type Pull string

// Pull policies.
const (
	PullMissing Pull = ""       // for images that are not in the store
	PullAlways  Pull = "always" // for all, so that a newer one is found
	PullNever   Pull = "never"
)

// Secret is a value that commands may read and that no image, cache, record or
// log ever gets: one of its fields.
type Secret struct {
	File string // read when the build begins to need it
	Env  string // a variable of this process's environment
	Data []byte
}

// SSH is an agent that commands may use: one of its fields, or none for the
// agent of this process's environment, SSH_AUTH_SOCK.
type SSH struct {
	Socket string   // of an agent
	Keys   []string // files with private keys, without passphrase; the agent has just these
}

// Ulimit is a resource limit of each process, by Docker's name: "nofile".
type Ulimit struct {
	Name string
	Soft int64 // -1: unlimited
	Hard int64
}

// Resources bound each command. Zero is no limit.
type Resources struct {
	Memory     int64  // bytes
	MemorySwap int64  // bytes of memory and swap together; -1: no limit
	CPUShares  uint64 // weight against others; 1024 is the kernel's default
	CPUPeriod  uint64 // µs
	CPUQuota   int64  // µs of processor time in each period
	CPUSet     string // processors: "0-2,4"
	CPUSetMems string // memory nodes
}

// What Request.Allow may list.
const (
	AllowHostNetwork = "network.host"
	AllowInsecure    = "security.insecure"
	AllowDevice      = "device"
)

// OutputType is a kind of output.
type OutputType string

// Kinds of outputs.
const (
	OutputImage  OutputType = ""       // an image in the store, named by Request.Tags
	OutputOCI    OutputType = "oci"    // an archive with an OCI layout
	OutputDocker OutputType = "docker" // an archive for docker load
	OutputDir    OutputType = "local"  // the files, in a directory
	OutputTar    OutputType = "tar"    // the files, in an archive
)

// Output is a place for the result.
type Output struct {
	Type OutputType
	// Path is the directory or file to write. A directory is made if need be;
	// what is in it stays, unless it is in the way.
	Path string
	// Writer takes an archive instead.
	Writer io.Writer
}

// Cache is a place where builds leave what they made for others: one of its
// fields Dir, Ref and Inline.
type Cache struct {
	Dir    string // a directory
	Ref    string // in a registry
	Inline bool   // in the image itself; only for CacheTo
	Max    bool   // also what no layer of the result is made of; only for CacheTo
}
