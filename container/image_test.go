package container

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/amphora-go/amphora/network"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestImageConfig(t *testing.T) {
	b := newBench(t, `ENTRYPOINT ["sh","-c","env; pwd; id; args \"$0\" \"$1\""]`, `CMD ["one","two"]`, "ENV A=image B=image PATH=/bin",
		"USER alice", "WORKDIR /made/by/workdir", "STOPSIGNAL SIGUSR1", "LABEL from=image both=image")
	for _, tt := range []struct {
		name      string
		spec      Spec
		arg       []string
		want, not []string
	}{
		{"as it is", Spec{}, nil, []string{"A=image", "B=image", "PATH=/bin", "HOME=/home/alice", "/made/by/workdir",
			"uid=1000(alice) gid=1000(alice) groups=10(wheel),29(audio)", `"one"`, `"two"`}, nil},
		{"command", Spec{}, []string{"three", "four"}, []string{`"three"`, `"four"`}, []string{`"one"`}},
		{"env", Spec{Process: Process{Env: []string{"A=mine", "B", "C=new=x"}}}, nil, []string{"A=mine", "C=new=x"}, []string{"A=image", "B=image"}},
		{"user", Spec{Process: Process{User: "bob"}}, nil, []string{"HOME=/home/bob", "uid=1001(bob) gid=100(users) groups=29(audio)"}, nil},
		{"dir", Spec{Process: Process{Dir: "/tmp"}}, nil, []string{"/tmp"}, []string{"/made/by/workdir"}},
		{"entrypoint", Spec{Process: Process{Entrypoint: []string{"args"}}}, []string{"x y"}, []string{`"x y"`}, []string{`"one"`, "A=image"}},
		{"no entrypoint", Spec{Process: Process{Entrypoint: []string{""}}}, []string{"echo", "plain"}, []string{"plain"}, []string{"A=image"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := readLines(b.output(t, tt.spec, tt.arg...))
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("no line %q in %q", w, got)
				}
			}
			for _, n := range tt.not {
				if slices.Contains(got, n) {
					t.Errorf("a line %q in %q", n, got)
				}
			}
		})
	}
	c := b.create(t, Spec{Labels: map[string]string{"both": "mine"}}, "x")
	if l := inspect(t, c).Labels; l["from"] != "image" || l["both"] != "mine" {
		t.Errorf("labels %v", l)
	}
	out := new(collector)
	c = b.create(t, Spec{Process: Process{Entrypoint: []string{"trap"}}})
	if _, err := c.StartAttached(t.Context(), &IO{Stdout: out}); err != nil {
		t.Fatal(err)
	}
	out.await(t, "ready")
	go c.Stop(t.Context(), &StopOptions{Timeout: -1})
	out.await(t, "got 10 ") // SIGUSR1
}

func TestNoCommand(t *testing.T) {
	b := newBench(t)
	_, err := b.try(t, Spec{})
	is(t, err, fs.ErrInvalid)
	says(t, err, "no command")
	_, err = b.try(t, Spec{Rootfs: "/nosuch/rootfs"}, "true")
	is(t, err, fs.ErrInvalid)
	says(t, err, "/nosuch/rootfs")
	_, err = b.try(t, Spec{Rootfs: "/"}, "true")
	is(t, err, fs.ErrInvalid)
}

// An image that was removed, by force, does not take its containers with it.
func TestImageRemovedUnderContainer(t *testing.T) {
	b := newBench(t)
	c := b.create(t, Spec{}, "echo", "x")
	img, err := b.images.Get(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.images.Remove(t.Context(), "box", &image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wait(t, c); strings.TrimSpace(logText(t, c)) != "x" {
		t.Errorf("log %q", logText(t, c))
	}
	_ = img
}

// The writable layer is the container's own, and stays over restarts.
func TestWritableLayer(t *testing.T) {
	b := newBench(t)
	one := b.start(t, Spec{}, "sh", "-c", "cat /n; echo x >> /n; cat /n")
	wait(t, one)
	if err := one.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, one)
	if got := logText(t, one); !strings.HasSuffix(got, "x\nx\nx\n") {
		t.Errorf("log %q", got)
	}
	if b.output(t, Spec{}, "sh", "-c", "test -e /n || echo none") != "none" {
		t.Error("a file of one container is in another")
	}
}

func TestEtcFiles(t *testing.T) {
	b := newBench(t)
	spec := Spec{Hostname: "web", Domainname: "example.org", ExtraHosts: []string{"db:10.1.2.3", "six:[fe80::1]"},
		DNS: DNS{Servers: []string{"9.9.9.9"}, Search: []string{"a.example", "b.example"}, Options: []string{"ndots:2"}}}
	c := b.start(t, spec, "pause")
	if got := execOutput(t, c, "hostname"); got != "web" {
		t.Errorf("hostname %q", got)
	}
	if got := execOutput(t, c, "cat", "/etc/hostname"); got != "web" {
		t.Errorf("/etc/hostname %q", got)
	}
	if got := execOutput(t, c, "cat", "/proc/sys/kernel/domainname"); got != "example.org" {
		t.Errorf("domain %q", got)
	}
	hosts := execOutput(t, c, "cat", "/etc/hosts")
	for _, want := range []string{"127.0.0.1\tlocalhost", "10.1.2.3\tdb", "fe80::1\tsix"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("/etc/hosts lacks %q: %q", want, hosts)
		}
	}
	resolv := execOutput(t, c, "cat", "/etc/resolv.conf")
	for _, want := range []string{"nameserver 127.0.0.11", "search a.example b.example", "options ndots:2"} {
		if !strings.Contains(resolv, want) {
			t.Errorf("/etc/resolv.conf lacks %q: %q", want, resolv)
		}
	}
	if strings.Count(resolv, "nameserver") != 1 {
		t.Errorf("/etc/resolv.conf has the host's servers too: %q", resolv)
	}
	plain := b.start(t, Spec{}, "pause")
	if got := execOutput(t, plain, "hostname"); got != plain.ID()[:12] {
		t.Errorf("default hostname %q", got)
	}
	none := []network.Endpoint{{Network: network.None}}
	bare := b.start(t, Spec{Networks: none}, "pause")
	if got := execOutput(t, bare, "cat", "/etc/resolv.conf"); got != hostFile(t, "/etc/resolv.conf") {
		t.Errorf("resolv.conf without a resolver %q", got)
	}
	own := b.start(t, Spec{Networks: none, DNS: DNS{Servers: []string{"9.9.9.9"}}}, "pause")
	if got := execOutput(t, own, "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 9.9.9.9") {
		t.Errorf("resolv.conf with servers of one's own %q", got)
	}
	// They can be written, and belong to this container alone.
	execOutput(t, plain, "write", "/etc/hosts", "mine")
	if got := execOutput(t, c, "cat", "/etc/hosts"); got != hosts {
		t.Errorf("hosts of another container: %q", got)
	}
}

func TestNetworkModes(t *testing.T) {
	b := newBench(t)
	netns := func(c *Container) string { return execOutput(t, c, "readlink", "/proc/self/ns/net") }
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	none := b.start(t, Spec{Name: "none", Networks: []network.Endpoint{{Network: network.None}}}, "pause")
	if got := execOutput(t, none, "cat", "/proc/net/dev"); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lo:") {
		t.Errorf("interfaces without a network: %q", got)
	}
	if netns(none) == own {
		t.Error("without a network it has the host's")
	}
	host := b.start(t, Spec{Networks: []network.Endpoint{{Network: "host"}}}, "pause")
	if netns(host) != own {
		t.Error("host network is another one")
	}
	name, _ := os.Hostname()
	if got := execOutput(t, host, "hostname"); got != name {
		t.Errorf("hostname on the host's network: %q", got)
	}
	joined := Spec{Networks: []network.Endpoint{{Network: network.Container("none")}}}
	join := b.start(t, joined, "pause")
	if netns(join) != netns(none) {
		t.Error("a joined network is another one")
	}
	if a, o := execOutput(t, join, "cat", "/etc/hosts", "/etc/hostname"), execOutput(t, none, "cat", "/etc/hosts", "/etc/hostname"); a != o {
		t.Errorf("files of a joined network: %q, %q", a, o)
	}
	if a, o := execOutput(t, join, "hostname"), none.ID()[:12]; a != o {
		t.Errorf("host name on a joined network: %q, want %q", a, o)
	}
	if err := none.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := join.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	err = join.Start(t.Context())
	is(t, err, ErrNotRunning)
	says(t, err, none.ID()[:12])
	_, err = b.try(t, Spec{Networks: []network.Endpoint{{Network: network.Container("nosuch")}}}, "true")
	is(t, err, fs.ErrInvalid)
	says(t, err, "nosuch")
	_, err = b.try(t, Spec{Networks: []network.Endpoint{{Network: "mynet"}}}, "true")
	is(t, err, fs.ErrInvalid)
	says(t, err, "mynet")
}

// Loopback is up: two processes of one container can talk.
func TestDial(t *testing.T) {
	b := newBench(t)
	out := new(collector)
	c := b.create(t, Spec{}, "http", "127.0.0.1:8080", "hello from inside")
	if _, err := c.StartAttached(t.Context(), &IO{Stdout: out}); err != nil {
		t.Fatal(err)
	}
	out.await(t, "http on")
	conn, err := c.Dial(t.Context(), "tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(conn); err != nil || !strings.Contains(got.String(), "hello from inside") {
		t.Errorf("%q, %v", got.String(), err)
	}
	if _, ok := conn.(*net.TCPConn); !ok {
		t.Errorf("the connection is a %T", conn)
	}
	if _, err := c.Dial(t.Context(), "tcp", "127.0.0.1:9"); err == nil {
		t.Error("a closed port was reached")
	}
	_, err = c.Dial(t.Context(), "tcp", "example.org:80")
	is(t, err, fs.ErrInvalid)
	_, err = c.Dial(t.Context(), "tcp", "nonsense")
	is(t, err, fs.ErrInvalid)
	if execOutput(t, c, "get", "127.0.0.1:8080") != "hello from inside" {
		t.Error("loopback does not work inside")
	}
}

func TestCustomize(t *testing.T) {
	m := newManager(t)
	c := m.Command(t.Context(), "", "env")
	c.Rootfs = testenv.Rootfs(t)
	c.Customize = func(s *specs.Spec) error {
		s.Process.Env = append(s.Process.Env, "CUSTOM=1")
		s.Process.User.UID = 1000
		return nil
	}
	out, err := c.Output()
	if err != nil || !strings.Contains(string(out), "CUSTOM=1") {
		t.Errorf("%q, %v", out, err)
	}
	failed := errors.New("no")
	c = m.Command(t.Context(), "", "env")
	c.Rootfs = testenv.Rootfs(t)
	c.Customize = func(*specs.Spec) error { return failed }
	is(t, c.Run(), failed)
	c = m.Command(t.Context(), "", "env")
	c.Rootfs = testenv.Rootfs(t)
	c.Customize = func(s *specs.Spec) error { s.Process.Capabilities = nil; return nil }
	is(t, c.Run(), fs.ErrInvalid)
}
