package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
)

// podman works on directories of its own.
type podman struct {
	cli   *tool
	dir   string
	image string
}

func (b *bench) startPodman(ctx context.Context) (*podman, error) {
	p := &podman{dir: b.site.path("podman"), image: imageName}
	if err := os.MkdirAll(p.dir, 0o711); err != nil {
		return nil, err
	}
	group := "/amphora-bench-" + strconv.Itoa(os.Getpid()) + "-podman"
	locks := "/dev/shm/libpod_lock" // podman's own, of all its stores
	_, err := os.Stat(locks)
	fresh := os.IsNotExist(err)
	p.cli = &tool{dir: b.site.dir, argv: []string{"podman", "--root", p.dir + "/root", "--runroot", b.site.state("podman"), "--tmpdir", b.site.state("tmp"),
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", "--events-backend", "file"}}
	b.site.later(func() {
		p.cli.run(context.Background(), "rm", "-f", "-a", "-t", "0")
		removeGroups(group)
		removeGroups("/libpod_parent")
		if fresh {
			os.Remove(locks)
		}
	})
	return p, p.cli.run(ctx, "import", b.site.path("rootfs.tar"), p.image)
}

// run is the beginning of a command line that runs a container. Without limits
// podman asks for more than it may have where CAP_SYS_RESOURCE is missing.
func (p *podman) run(args ...string) []string { return p.runOn("none", args...) }

func (p *podman) runOn(network string, args ...string) []string {
	return p.container("run", network, args)
}

func (p *podman) container(verb, network string, args []string) []string {
	return slices.Concat([]string{verb, "--network", network}, p.limits(), args)
}

func (p *podman) limits() []string {
	group := "/amphora-bench-" + strconv.Itoa(os.Getpid()) + "-podman"
	return []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--cgroup-parent", group}
}

// monitors are the processes that serve one container each.
func (p *podman) monitors() []int {
	var pids []int
	for _, q := range processes() {
		if strings.Contains(q.args, "conmon ") && strings.Contains(q.args, p.dir+"/") {
			pids = append(pids, q.pid)
		}
	}
	return pids
}
