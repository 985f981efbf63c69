package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/image/build"
)

// buildFlags are those of build. Most write straight into the Request.
type buildFlags struct {
	build.Request
	file, progress, iidFile, metadataFile string
	quiet, pull, push, load               bool
	args, labels, platforms               []string
	noCacheFilter                         []string
	stdout                                bool // an output goes to it
}

func (b *buildFlags) define(f *flags) {
	f.list(&b.Tags, "t,tag", "Name and optionally a tag (`name:tag`)")
	f.text(&b.file, "f,file", "Name of the Dockerfile (default PATH/Dockerfile); - reads it from STDIN")
	f.text(&b.Target, "target", "Set the target build `stage` to build")
	f.list(&b.args, "build-arg", "Set build-time variables (`KEY[=value]`); KEY alone takes its value from here")
	each(f, "secret", "Secret to expose to the build (`id=ID[,src=FILE|,env=VARIABLE]`)", b.secret)
	each(f, "ssh", "SSH agent socket or keys to expose to the build (`default|ID[=SOCKET|KEY[,KEY]]`)", b.agent)
	f.list(&b.platforms, "platform", "Set target `platform` for build; several make an index")
	f.bool(&b.NoCache, "no-cache", "Do not use cache when building the image")
	f.list(&b.noCacheFilter, "no-cache-filter", "Do not cache specified `stages`")
	f.bool(&b.pull, "pull", "Always attempt to pull all referenced images")
	f.text(&b.progress, "progress", "Set `type` of progress output: auto, plain, tty or quiet")
	f.bool(&b.quiet, "q,quiet", "Suppress the build output and print image ID on success")
	each(f, "o,output", "Output `destination`: DIRECTORY, - for a tar, or type=local|tar|oci|docker|image,dest=PATH", b.output)
	f.bool(&b.load, "load", "Accepted for Docker's sake: the image is in the store anyway")
	f.bool(&b.push, "push", "Push all names of the image when it is built")
	each(f, "build-context", "Additional build contexts (`name=PATH|URL|docker-image://REF|oci-layout://PATH`)", b.context)
	each(f, "cache-from", "External cache sources (`REF`, type=registry,ref=REF or type=local,src=DIR)", b.cacheFrom)
	each(f, "cache-to", "Cache export destinations (`type=inline`, type=registry,ref=REF or type=local,dest=DIR)", b.cacheTo)
	f.list(&b.labels, "label", "Set metadata for an image (`key=value`)")
	value(f, &b.Network, "network", "Set the networking `mode` for RUN: default, none or host", parseBuildNetwork)
	each(f, "add-host", "Add a custom host-to-IP mapping (`host:ip`)", b.host)
	value(f, &b.ShmSize, "shm-size", "Size of /dev/shm (`bytes`)", parseBytes)
	each(f, "ulimit", "Ulimit options (`name=soft[:hard]`)", func(s string) error {
		u, err := parseUlimit(s)
		b.Ulimits = append(b.Ulimits, build.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
		return err
	})
	f.text(&b.CgroupParent, "cgroup-parent", "Set the parent `cgroup` for RUN")
	value(f, &b.Resources.Memory, "m,memory", "Memory limit of RUN (`bytes`)", parseBytes)
	value(f, &b.Resources.MemorySwap, "memory-swap", "Limit of memory plus swap of RUN (`bytes`); -1: no limit", parseSwap)
	value(f, &b.Resources.CPUShares, "c,cpu-shares", "CPU shares of RUN (relative `weight`)", parseNumber[uint64])
	value(f, &b.Resources.CPUPeriod, "cpu-period", "Period of RUN's CPU quota (`microseconds`)", parseNumber[uint64])
	value(f, &b.Resources.CPUQuota, "cpu-quota", "CPU time of RUN in each period (`microseconds`)", parseNumber[int64])
	f.text(&b.Resources.CPUSet, "cpuset-cpus", "Let RUN use these `CPUs` only, such as 0-3,7")
	f.text(&b.Resources.CPUSetMems, "cpuset-mems", "Let RUN use memory of these `nodes` only, such as 0-3")
	f.list(&b.Allow, "allow", "Allow extra privileged `entitlement`: network.host, security.insecure or device[=NAME]")
	f.text(&b.iidFile, "iidfile", "Write the image ID to a `file`")
	f.text(&b.metadataFile, "metadata-file", "Write build result metadata to a `file`")
}

// request completes the request for a context as the command line names it.
func (b *buildFlags) request(a *app, where string) (*build.Request, error) {
	r := &b.Request
	env, err := environment(nil, b.args)
	if err != nil {
		return nil, err
	}
	r.Args = map[string]string{}
	for _, pair := range env {
		if key, v, ok := strings.Cut(pair, "="); ok {
			r.Args[key] = v
		}
	}
	if r.Labels, err = labels(nil, b.labels); err != nil {
		return nil, err
	}
	for p := range separated(b.platforms) {
		r.Platforms = append(r.Platforms, p)
	}
	for stage := range separated(b.noCacheFilter) {
		r.NoCacheFilter = append(r.NoCacheFilter, stage)
	}
	if b.push && len(r.Tags) == 0 {
		return nil, errors.New("there is nothing to push: give the image a name with -t")
	}
	if b.pull {
		r.Pull = build.PullAlways
	}
	for i, o := range r.Outputs {
		if o.Type != build.OutputImage && o.Type != build.OutputDir && o.Path == "" {
			r.Outputs[i].Writer = a.stdout
			b.stdout = true
		}
	}
	return r, b.source(a, where)
}

// source says where the Dockerfile and its context are.
func (b *buildFlags) source(a *app, where string) (err error) {
	r := &b.Request
	stdin := where == "-"
	switch {
	case stdin && b.file == "-":
		return errors.New("the Dockerfile and the context cannot both come from STDIN")
	case stdin:
		if err := b.stdinContext(a); err != nil {
			return err
		}
	case isURL(where):
		r.Context.URL = where
	default:
		if st, err := os.Stat(where); err != nil || !st.IsDir() {
			return fmt.Errorf("unable to prepare context: path %q is not a directory", where)
		}
		if r.Context.Dir, err = filepath.Abs(where); err != nil {
			return err
		}
	}
	switch {
	case b.file == "-":
		r.Inline, err = readAll(a.stdin)
		return err
	case b.file == "" || r.Context.Dir == "":
		r.Dockerfile = b.file
		return nil
	}
	r.Dockerfile, err = dockerfile(r.Context.Dir, b.file)
	return err
}

// dockerfile is the path of a file below the context, or else an absolute one.
// As in Docker, -f is relative to the working directory.
func dockerfile(dir, file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel), nil
	}
	return path, nil
}

func isURL(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func (b *buildFlags) host(s string) error {
	name, address, ok := strings.Cut(s, "=")
	if !ok {
		name, address, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" || address == "" {
		return errors.New("want HOST:IP")
	}
	b.ExtraHosts = append(b.ExtraHosts, name+":"+address)
	return nil
}

func parseBuildNetwork(s string) (string, error) {
	switch s {
	case "default", "bridge":
		return "", nil
	case "none", "host":
		return s, nil
	}
	return "", errors.New("want default, none or host")
}
