package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/nft/netlab"
	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
	"github.com/amphora-go/amphora/internal/testenv"
)

// peer is another container engine.
type peer struct {
	name string
	argv []string
}

func (e *peer) do(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append(e.argv, args...)...)
}

// join runs a container of the peer's, which publishes ports 80 as port, and
// makes it a place and a target.
func (e *peer) join(t *testing.T, w *reach.World, port int, args ...string) {
	t.Helper()
	args = append([]string{"run", "-d", "--name", e.name, "-p", fmt.Sprintf("%d:80/tcp", port), "-p", fmt.Sprintf("%d:80/udp", port)}, args...)
	e.do(t, append(append(args, "box"), answer(e.name)...)...)
	t.Cleanup(func() {
		if _, err := output(append(e.argv, "rm", "-f", e.name)...); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	pid, err := strconv.Atoi(e.do(t, "inspect", "-f", "{{.State.Pid}}", e.name))
	if err != nil {
		t.Fatal(err)
	}
	var addrs []netip.Addr
	for _, s := range strings.Fields(e.do(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}", e.name)) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	title := "container of " + e.name
	p := w.Add(title, e.name, pid, addrs, false)
	w.Let(title)
	own := func(_ *reach.Place, v6 bool) string {
		return map[bool]string{false: netlab.HostV4, true: netlab.HostV6}[v6]
	}
	w.Targets = append(w.Targets, reach.Target{Name: title + ", published, by the host's address", Server: e.name, Port: port, Addr: own,
		From: append([]string{reach.Host, reach.Outside}, reach.Routed()...), Never: []string{title}})
	// Only networks of ours are kept apart: what goes to another engine's is
	// forwarded like what goes to any other neighbour of this host.
	w.Targets = append(w.Targets, reach.Target{Name: title + ", its address, other port", Server: e.name, Port: 81, Addr: p.Addr,
		From: append([]string{reach.Host}, reach.Routed()...), Never: []string{title, reach.Outside}})
}

const apart = "Containers of the other engine reach of ours what is published, and nothing else. Ours reach its containers by address as the host does: " +
	"our filter keeps apart networks of ours, and has others' filters let pass what it lets pass."

// imageTar is the testenv image as a file.
func imageTar(t *testing.T) string {
	t.Helper()
	file := filepath.Join(testenv.Dir(t), "rootfs.tar")
	if err := os.WriteFile(file, testenv.RootfsTar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// dockerd starts a daemon on directories of its own, on a machine that does not
// forward yet: then it sets the policy of FORWARD to DROP.
func dockerd(t *testing.T) *peer {
	t.Helper()
	dir, group := testenv.Dir(t), fmt.Sprintf("/amphora-e2e-%d-docker", os.Getpid())
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sock := "unix://" + filepath.Join(dir, "sock")
	daemon := exec.Command("dockerd", "--config-file", config, "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", sock,
		"--experimental", "--ip6tables", "--ipv6", "--fixed-cidr-v6", "fd00:d0c::/64", "--storage-driver", "overlay2", "--cgroup-parent", group, "--log-level=error")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { daemon.Wait(); close(ended) }()
	t.Cleanup(func() {
		daemon.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			daemon.Process.Kill()
			<-ended
		}
		removeGroups(t, group)
		unmount(dir)
	})
	e := &peer{"docker", []string{"docker", "-H", sock}}
	for range 300 {
		if _, err := output(append(e.argv, "version")...); err == nil {
			e.do(t, "import", imageTar(t), "box")
			return e
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd ended: %s", text)
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("dockerd does not answer")
	return nil
}

// removeGroups removes control groups of that name, in every hierarchy.
func removeGroups(t *testing.T, group string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*" + group)
	for _, top := range append(tops, "/sys/fs/cgroup"+group) {
		var dirs []string
		filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return nil
		})
		for _, d := range dirs {
			if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
				t.Logf("control group: %v", err)
			}
		}
	}
}

// unmount detaches what is mounted below dir, in this test's own namespace.
func unmount(dir string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
			syscall.Unmount(at, syscall.MNT_DETACH)
		}
	}
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// TestDocker runs beside a dockerd that was there first, and once more after a
// restart of it.
func TestDocker(t *testing.T) {
	need(t, "dockerd", "docker", "iptables", "ip6tables")
	if !reach.Isolated(t) {
		return
	}
	sysctl(t, "net/ipv4/ip_forward", "0")
	docker := dockerd(t)
	if policy := run(t, "iptables", "-S", "FORWARD"); policy != "-P FORWARD DROP" {
		t.Fatalf("dockerd left %q", policy)
	}
	// This release sets it for IPv4 only; others do for both.
	run(t, "ip6tables", "-P", "FORWARD", "DROP")
	e := open(t)
	w := reach.NewWorld(t, e)
	p := newPart(t, "Beside dockerd, whose policy of FORWARD is DROP")
	docker.join(t, w, 9090)
	p.say(apart)
	p.ask(w, "dockerd was there first, turned forwarding on, and set the policies of iptables and ip6tables")
	attack(p, w)
	if found := e.firewalls(); len(found) > 0 {
		t.Errorf("Check finds %v", found)
	}
	run(t, "iptables", "-F", "FORWARD")
	if found := e.firewalls(); len(found) != 1 || !strings.Contains(found[0].Cure, "reload") {
		t.Errorf("after a flush of FORWARD Check finds %v", found)
	} else {
		p.say("After `iptables -F FORWARD`, `Check` says: %s. It advises to %s.", found[0].Problem, found[0].Cure)
	}
	e.reload()
	if found := e.firewalls(); len(found) > 0 {
		t.Errorf("after a reload Check finds %v", found)
	}
	if server, _, err := w.Outside.AskFrom("tcp", "", netlab.Addr(netlab.HostV4, 8080), 5*time.Second); err != nil || server != "web" {
		t.Errorf("after a reload of the networks: %q, %v", server, err)
	}
}

// TestPodman runs beside podman's networks.
func TestPodman(t *testing.T) {
	need(t, "podman", "iptables")
	if !reach.Isolated(t) {
		return
	}
	if err := syscall.Mount("tmpfs", "/dev/shm", "tmpfs", 0, ""); err != nil { // podman keeps its locks there
		t.Fatal(err)
	}
	dir, group := testenv.Dir(t), fmt.Sprintf("/amphora-e2e-%d-podman", os.Getpid())
	podman := &peer{"podman", []string{"podman", "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--network-config-dir", dir + "/net",
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay", "--events-backend", "file"}}
	t.Cleanup(func() {
		exec.CommandContext(context.Background(), podman.argv[0], append(podman.argv[1:], "rm", "-f", "-a", "-t", "0")...).Run()
		removeGroups(t, group)
		removeGroups(t, "/libpod_parent")
		unmount(dir)
	})
	podman.do(t, "import", imageTar(t), "box")
	podman.do(t, "network", "create", "--ipv6", "--subnet", "10.99.0.0/24", "--subnet", "fd00:99:1::/64", "e2e")
	e := open(t)
	w := reach.NewWorld(t, e)
	p := newPart(t, "Beside podman")
	podman.join(t, w, 9191, "--network", "e2e", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--cgroup-parent", group)
	p.say(apart)
	p.ask(w, "podman's network is driven by "+run(t, append(podman.argv, "info", "-f", "{{.Host.NetworkBackend}}")...))
	e.reload()
	p.again(w, "After `network reload`")
	run(t, append(podman.argv, "network", "reload", "-a")...)
	p.again(w, "After `podman network reload`")
}
