package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// docker is a daemon in network and mount namespaces of its own. Nothing that
// it makes can be seen outside, and its mounts end with it.
type docker struct {
	cli    *tool
	client *dockerClient
	dir    string
	exec   string // what runs
	daemon *exec.Cmd
	ended  chan struct{} // closed when the daemon ended
	image  string
	ns     *namespace // the daemon's
}

// The daemon gets an empty /run, so that it neither finds a containerd of the
// host nor leaves anything there; paths of ours are given explicitly.
const dockerScript = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
busybox ip link set lo up
exec dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root "$3" --pidfile "$1/pid" \
	-H "unix://$1/sock" --storage-driver overlay2 --cgroup-parent "$2" --log-level=error
`

func (b *bench) startDocker(ctx context.Context) (*docker, error) {
	d := &docker{dir: b.site.path("docker"), exec: b.site.state("docker"), ended: make(chan struct{}), image: imageName}
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.dir+"/daemon.json", []byte("{}\n"), 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(d.dir + "/log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	group := "/amphora-bench-" + strconv.Itoa(os.Getpid()) + "-docker"
	d.daemon = exec.Command("sh", "-c", dockerScript, "sh", d.dir, group, d.exec)
	d.daemon.Stdout, d.daemon.Stderr = log, log
	d.daemon.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if err := d.daemon.Start(); err != nil {
		return nil, err
	}
	b.known[d.daemon.Process.Pid] = true
	go func() { d.daemon.Wait(); close(d.ended) }()
	b.site.later(func() { d.stop(); removeGroups(group) })

	// Debian's client is of the daemon's version; another may come first in PATH.
	cli := "/usr/bin/docker"
	if _, err := os.Stat(cli); err != nil {
		cli = "docker"
	}
	d.cli = &tool{argv: []string{cli}, env: []string{"DOCKER_HOST=unix://" + d.dir + "/sock", "DOCKER_CONFIG=" + d.dir + "/config"}, dir: b.site.dir}
	d.client = newDockerClient(d.dir + "/sock")
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.daemon.Process.Pid))
	if err != nil {
		return nil, err
	}
	d.ns = &namespace{ns}
	_, err = d.cli.output(ctx, nil, "import", b.site.path("rootfs.tar"), d.image)
	return d, err
}

// ready waits until the daemon answers.
func (d *docker) ready(ctx context.Context) error {
	for range 300 {
		if d.client.call(ctx, http.MethodGet, "/_ping", nil, nil) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ended:
			text, _ := os.ReadFile(d.dir + "/log")
			return fmt.Errorf("dockerd ended: %s", tail(text))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("dockerd does not answer; see %s/log", d.dir)
}

// stop ends the daemon. What it leaves is ended with our other descendants.
func (d *docker) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if running, err := d.cli.output(ctx, nil, "ps", "-q"); err == nil && running != "" {
		d.cli.run(ctx, append([]string{"rm", "-f"}, strings.Fields(running)...)...)
	}
	d.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		d.daemon.Process.Kill()
		<-d.ended
	}
}

// run is the beginning of a command line that runs a container.
func (d *docker) run(args ...string) []string {
	return append([]string{"run", "--network", "none"}, args...)
}

// daemons are the processes that serve all containers.
func (d *docker) daemons() []int {
	pids := []int{d.daemon.Process.Pid}
	for _, p := range descendants(d.daemon.Process.Pid) {
		if strings.HasPrefix(p.args, "containerd ") {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// shims are the processes that serve one container each.
func (d *docker) shims() []int {
	var pids []int
	for _, p := range processes() {
		if strings.Contains(p.args, "containerd-shim") && strings.Contains(p.args, d.exec+"/") {
			pids = append(pids, p.pid)
		}
	}
	slices.Sort(pids)
	return pids
}
