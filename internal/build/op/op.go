// Package op says what a build consists of: a graph of operations, each of
// which makes file trees from those of its inputs. It is data. image/build
// translates BuildKit's definitions into it, internal/build/solve works it off.
//
// The JSON of an operation goes into the keys of the cache, so a field that
// must not change what is cached (where a host resolves to, which proxy is
// used, what a cache mount is called) is marked json:"-".
package op

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Scratch stands for an empty tree where an input is expected, and for an
// output that nobody wants.
const Scratch = -1

// Vertex is one operation of a graph without cycles.
type Vertex struct {
	// Digest names the vertex within one build. It is no key of the cache: what
	// lies above a build context gets another one in each build.
	Digest   digest.Digest
	Name     string // as progress shows it: "[build 2/5] RUN make"
	Inputs   []Input
	Op       Op
	Platform ocispec.Platform
	NoCache  bool    // execute it, whatever the cache has
	Internal bool    // of no interest to who reads the progress
	Places   []Place // where it stands in Dockerfiles
	Limits   *Limits // for commands; nil: none
}

// Input is one output of another vertex.
type Input struct {
	Vertex *Vertex
	Index  int
}

// Place is a range of lines, counted from 1, of a file.
type Place struct {
	File        string
	First, Last int
}

// Op is one of *Image, *Layout, *Local, *HTTP, *Git, *Exec, *File, *Merge and
// *Diff.
type Op interface{ Kind() string }

// Image is the root file system of an image.
type Image struct {
	Ref  string // canonical, with digest where it was resolved
	Mode string `json:"-"` // when to ask the registry: "", "pull" or "local"
}

// Layout is the root file system of an image in an OCI layout that the caller
// of the build gave.
type Layout struct {
	Name string // as the caller named it
	Ref  string // with digest
}

// Local is a directory that the caller gave: a build context.
type Local struct {
	Name    string
	Include []string `json:",omitempty"` // patterns; nil: all
	Exclude []string `json:",omitempty"` // patterns as in .dockerignore
	Follow  []string `json:",omitempty"` // only these paths and what their links lead to; nil: all
}

// HTTP is a file that is downloaded.
type HTTP struct {
	URL      string
	Checksum digest.Digest     `json:",omitempty"` // that it must have
	Filename string            `json:",omitempty"`
	Mode     uint32            `json:",omitempty"` // 0: 0600
	UID, GID int               `json:",omitempty"`
	Header   map[string]string `json:"-"`
	Secret   string            `json:"-"` // id of the secret that is the Authorization header, if there is one
}

// Git is a commit that is checked out.
type Git struct {
	Remote         string // URL or host:path without fragment
	Ref            string `json:",omitempty"` // branch, tag, commit; "": the default branch
	Dir            string `json:",omitempty"` // of the repository, that becomes the root
	KeepGitDir     bool   `json:",omitempty"`
	Checksum       string `json:",omitempty"` // the commit, or its beginning, that Ref must be
	SkipSubmodules bool   `json:",omitempty"`
	MTime          string `json:",omitempty"` // "commit": files have the commit's time
	FetchByCommit  bool   `json:"-"`
	TokenSecret    string `json:"-"` // ids of secrets
	HeaderSecret   string `json:"-"`
	KnownHosts     string `json:"-"`
	SSH            string `json:"-"` // id of the agent's socket
}

// Exec is a command. Its mount at "/" is the tree that it runs in.
type Exec struct {
	Args, Env      []string
	Dir            string      `json:",omitempty"` // "": /
	User           string      `json:",omitempty"`
	Hostname       string      `json:",omitempty"`
	Ulimits        []Ulimit    `json:",omitempty"`
	CgroupParent   string      `json:",omitempty"`
	Network        string      `json:",omitempty"` // "", "host" or "none"
	Insecure       bool        `json:",omitempty"` // with all privileges
	StubsRecursive bool        `json:"-"`          // remove also the directories above mount points that were made for them
	ExitCodes      []int       `json:",omitempty"` // that are no failure; nil: 0
	Mounts         []Mount     `json:",omitempty"`
	SecretEnv      []SecretEnv `json:",omitempty"`
	Devices        []Device    `json:",omitempty"`
	ExtraHosts     []Host      `json:"-"`
	Proxy          []string    `json:"-"` // environment that is not kept in the image
}

// Ulimit is a resource limit of a process, as setrlimit names it without
// RLIMIT_, in lower case.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Host is a line of /etc/hosts.
type Host struct{ Name, Address string }

// SecretEnv is an environment variable whose value is a secret's.
type SecretEnv struct {
	ID, Name string
	Optional bool `json:",omitempty"`
}

// Device is a CDI device by its qualified name.
type Device struct {
	Name     string
	Optional bool `json:",omitempty"`
}

// Types of mounts.
const (
	Bind   = "bind"
	Cache  = "cache"
	Secret = "secret"
	SSH    = "ssh"
	Tmpfs  = "tmpfs"
)

// Ways to share a cache mount.
const (
	Shared  = "shared"  // by any number of writers at once
	Private = "private" // each writer has its own; a free one is used again
	Locked  = "locked"  // one writer after the other
)

// Mount is something that is mounted for a command.
type Mount struct {
	Type     string
	Target   string
	Input    int    // of the vertex; Scratch: an empty tree
	Selector string `json:",omitempty"` // directory or file of the input
	Output   int    // of the vertex: the input with what the command changed; Scratch: thrown away
	ReadOnly bool   `json:",omitempty"`
	Size     int64  `json:",omitempty"` // of a tmpfs, in bytes; 0: the kernel's default

	CacheID string `json:"-"`
	Sharing string `json:"-"`

	ID       string `json:",omitempty"` // of a secret or an agent
	UID, GID uint32 `json:",omitempty"`
	Mode     uint32 `json:",omitempty"`
	Optional bool   `json:",omitempty"`
}

// Limits bound the resources of a command. Zero is no limit.
type Limits struct {
	Memory, MemorySwap   int64  // bytes
	CPUShares, CPUPeriod uint64 // relative weight; µs
	CPUQuota             int64  // µs in each period
	CPUs, Mems           string // such as "0-3"
}

// File is a chain of changes to one tree: what the first action of the chain
// names as Base, the next ones continue.
type File struct {
	Base    int // of the vertex's inputs, or Scratch
	Actions []Action
}

// Action is one of its members.
type Action struct {
	Copy    *Copy    `json:",omitempty"`
	Mkdir   *Mkdir   `json:",omitempty"`
	Mkfile  *Mkfile  `json:",omitempty"`
	Remove  *Remove  `json:",omitempty"`
	Symlink *Symlink `json:",omitempty"`
}

// Copy takes files from another tree, or from the same.
type Copy struct {
	From             int // of the vertex's inputs; Scratch: the tree itself, as the actions before left it
	Source, Target   string
	Owner            *Owner   `json:",omitempty"`
	Mode             int      `json:",omitempty"` // with HasMode
	HasMode          bool     `json:",omitempty"`
	ModeText         string   `json:",omitempty"` // such as "u=rwX,go=rX"; before Mode
	FollowLinks      bool     `json:",omitempty"`
	Contents         bool     `json:",omitempty"` // of a directory, not the directory itself
	Unpack           bool     `json:",omitempty"` // a local archive, as ADD does
	MakeTarget       bool     `json:",omitempty"` // the directories that lead to it
	Wildcards        bool     `json:",omitempty"`
	AllowNoMatch     bool     `json:",omitempty"`
	Time             *int64   `json:",omitempty"` // of all that is written, in ns since 1970
	Include, Exclude []string `json:",omitempty"`
	Required         []string `json:",omitempty"` // that Include must find
	Replace          bool     `json:",omitempty"` // what is in the way and of another type
}

// Mkdir makes a directory.
type Mkdir struct {
	Path    string
	Mode    int
	Parents bool   `json:",omitempty"`
	Owner   *Owner `json:",omitempty"`
	Time    *int64 `json:",omitempty"`
}

// Mkfile writes a file.
type Mkfile struct {
	Path  string
	Mode  int
	Data  []byte
	Owner *Owner `json:",omitempty"`
	Time  *int64 `json:",omitempty"`
}

// Remove deletes a file or a whole directory.
type Remove struct {
	Path         string
	AllowMissing bool `json:",omitempty"`
	Wildcards    bool `json:",omitempty"`
}

// Symlink makes a symbolic link.
type Symlink struct {
	Target, Path string // Path is the link
	Owner        *Owner `json:",omitempty"`
	Time         *int64 `json:",omitempty"`
}

// Owner is who gets files.
type Owner struct{ User, Group *ID }

// ID is a number, or a name of the passwd or group file of an input.
type ID struct {
	Number uint32 `json:",omitempty"`
	Name   string `json:",omitempty"`
	Input  int    `json:",omitempty"` // that has the files, with Name; Scratch: the tree itself
}

// Merge lays its inputs over each other, the last on top.
type Merge struct{}

// Diff is what Upper adds to Lower and deletes from it.
type Diff struct {
	Lower, Upper int // of the vertex's inputs, or Scratch
}

func (*Image) Kind() string  { return "image" }
func (*Layout) Kind() string { return "layout" }
func (*Local) Kind() string  { return "local" }
func (*HTTP) Kind() string   { return "http" }
func (*Git) Kind() string    { return "git" }
func (*Exec) Kind() string   { return "exec" }
func (*File) Kind() string   { return "file" }
func (*Merge) Kind() string  { return "merge" }
func (*Diff) Kind() string   { return "diff" }

// Owners are the users and groups that the action names.
func (a *Action) Owners() []*ID {
	var o *Owner
	switch {
	case a.Copy != nil:
		o = a.Copy.Owner
	case a.Mkdir != nil:
		o = a.Mkdir.Owner
	case a.Mkfile != nil:
		o = a.Mkfile.Owner
	case a.Symlink != nil:
		o = a.Symlink.Owner
	}
	if o == nil {
		return nil
	}
	return []*ID{o.User, o.Group}
}
