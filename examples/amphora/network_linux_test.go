package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testNetworks(t *testing.T, c *cli) {
	if id := c.ok("network", "create", "--label", "tier=web", "--ipv6", "app"); len(id) != 64 {
		t.Errorf("printed %q, want an id", id)
	}
	c.ok("network", "create", "--subnet", "10.213.7.0/24", "--gateway", "10.213.7.254", "--ip-range", "10.213.7.128/25", "--aux-address", "router=10.213.7.130",
		"--internal", "--mtu", "1300", "--isolation", "none", "-o", "com.docker.network.bridge.name=ampclitest0", "exact")
	c.is("10.213.7.0/24 10.213.7.254 10.213.7.128/25 [10.213.7.130] true 1300 none ampclitest0", "network", "inspect", "-f",
		"{{with index .Subnets 0}}{{.Prefix}} {{.Gateway}} {{.Range}} {{.Reserved}}{{end}} {{.Internal}} {{.MTU}} {{.Isolation}} {{.Interface}}", "exact")
	c.is("app\nbridge\nexact\nhost\nnone", "network", "ls", "--format", "{{.Name}}")
	c.is("app", "network", "ls", "-f", "label=tier=web", "-f", "driver=bridge", "--format", "{{.Name}}")
	c.is("app\nexact", "network", "ls", "-f", "dangling=true", "-f", "type=custom", "--format", "{{.Name}}")
	c.is(c.ok("network", "inspect", "-f", "{{.ID}}", "app"), "network", "ls", "-q", "--no-trunc", "-f", "name=ap")
	c.is("true true false", "network", "ls", "-f", "name=app", "--format", "{{.IPv4}} {{.IPv6}} {{.Internal}}")
	c.is("host\nnone", "network", "inspect", "-f", "{{.Name}}", "host", "none")
	c.is("app", "inspect", "-f", "{{.Name}}", "app")
	c.is("create", "events", "--since", "1h", "--until", "0s", "-f", "network=app", "--format", "{{.Action}}")

	list := filepath.Join(c.dir, "list")
	conflist := `{"cniVersion":"1.0.0","name":"listed","plugins":[{"type":"bridge","bridge":"ampclitest1","isGateway":true,
		"ipam":{"type":"host-local","ranges":[[{"subnet":"10.213.8.0/24"}]]}}]}`
	if err := os.WriteFile(list, []byte(conflist), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("network", "create", "--conflist", list, "listed")
	if out := c.ok("run", "--rm", "--network", "listed", "box", "ip"); !strings.Contains(out, "10.213.8.2/24") {
		t.Errorf("on the list's network:\n%s", out)
	}

	c.fails(1, "app", "network", "create", "app")
	c.fails(1, "--subnet", "network", "create", "--subnet", "10.1.2", "bad")
	c.fails(1, "no matching subnet", "network", "create", "--gateway", "10.1.2.1", "bad")
	c.fails(1, "10.213.7.0/24", "network", "create", "--subnet", "10.213.0.0/16", "bad")
	c.fails(1, "configuration list", "network", "create", "--conflist", list, "--internal", "listed2")
	c.fails(1, "nosuch", "network", "rm", "nosuch")
	c.run("network", "rm", "-f", "nosuch").want(t, 0, "")
	r := c.run("network", "rm", "nosuch", "listed", "nope")
	if r.code != 1 || r.stdout != "listed\n" || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("rm of one of three: %+v", r)
	}
	c.is("", "network", "reload")

	c.ok("run", "-d", "--name", "user", "--network", "app", "box", "pause")
	c.fails(1, "user", "network", "rm", "app")
	c.runInput([]byte("n\n"), "network", "prune").want(t, 0, "[y/N]")
	c.is("", "network", "prune", "-f", "--filter", "until=1h")
	c.is("Deleted Networks:\nexact", "network", "prune", "-f")
	c.ok("rm", "-f", "user")
	c.is("app", "network", "rm", "app")
}

func testConnections(t *testing.T, c *cli) {
	c.ok("network", "create", "--subnet", "10.213.9.0/24", "--ipv6", "--subnet", "fd00:213:9::/64", "one")
	c.ok("network", "create", "--subnet", "10.213.10.0/24", "two")
	c.ok("run", "-d", "--name", "web", "--network", "name=one,alias=www,ip=10.213.9.77,ip6=fd00:213:9::77,mac-address=02:42:0a:d5:09:4d", "box", "http", ":80", "hello")
	c.ok("run", "-d", "--name", "db", "--network", "two", "--network-alias", "store", "--ip", "10.213.10.5", "--mac-address", "02:42:0a:d5:0a:05",
		"--bandwidth-out", "10m", "box", "pause")
	if out := c.ok("exec", "web", "ip"); !strings.Contains(out, "02:42:0a:d5:09:4d [10.213.9.77/24 fd00:213:9::77/64") {
		t.Errorf("web's addresses:\n%s", out)
	}
	c.run("exec", "db", "nslookup", "www").want(t, 1, "")
	c.ok("network", "connect", "--alias", "guest", "--ip", "10.213.9.9", "one", "db")
	c.is("hello", "exec", "db", "get", "www:80")
	c.is("10.213.9.9\nfd00:213:9::2", "exec", "web", "nslookup", "guest")
	c.is("two,one", "ps", "-f", "name=db", "--format", "{{.Networks}}")
	c.is("db\nweb", "ps", "-f", "network=one", "--format", "{{.Names}}")
	c.fails(1, "already", "network", "connect", "one", "db")
	c.fails(1, "nosuch", "network", "connect", "nosuch", "db")
	c.is("", "network", "disconnect", "one", "db")
	c.fails(1, "one", "network", "disconnect", "one", "db")
	c.fails(1, "nosuch", "network", "disconnect", "-f", "one", "nosuch")
	c.run("exec", "db", "get", "www:80").want(t, 1, "")

	if hosts := c.ok("run", "--rm", "--network", "one", "--add-host", "me:host-gateway", "box", "cat", "/etc/hosts"); !strings.Contains(hosts, "10.213.9.1\tme") {
		t.Errorf("host-gateway:\n%s", hosts)
	}
	c.fails(125, "10.213.9.77", "run", "--network", "one", "--ip", "10.213.9.77", "box", "true")
	c.fails(125, "aliases", "run", "--network-alias", "x", "box", "true")
	c.fails(125, "conflicting options", "run", "--network", "name=one,ip=10.213.9.7", "--ip", "10.213.9.8", "box", "true")
	c.fails(125, "network host", "run", "--network", "host", "--ip", "10.213.9.8", "box", "true")
}

func testPorts(t *testing.T, c *cli) {
	c.is("bridge", "network", "inspect", "-f", "{{.Name}}", "bridge")
	c.ok("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-p", "published=27641,target=7,protocol=udp", "-p", "27650-27652:27650-27652", "--expose", "9", "-P", "box", "http", ":80", "hello")
	outside := c.ok("port", "web", "80")
	c.run("port", "web").want(t, 0, "80/tcp -> "+outside+"\n")
	c.is("0.0.0.0:27641\n[::]:27641", "port", "web", "7/udp")
	c.fails(1, "no public port '7/tcp' published for web", "port", "web", "7")
	c.fails(1, "invalid port", "port", "web", "http")
	nine := c.ok("port", "web", "9")
	four, six, _ := strings.Cut(nine, "\n")
	c.is("0.0.0.0:27650-27652->27650-27652/tcp, [::]:27650-27652->27650-27652/tcp, 0.0.0.0:27641->7/udp, [::]:27641->7/udp, "+
		four+"->9/tcp, "+six+"->9/tcp, "+outside+"->80/tcp", "ps", "--format", "{{.Ports}}")
	c.run("ps").want(t, 0, outside+"->80/tcp   web\n")
	eventually(t, "the port answers", func() bool {
		return c.run("run", "--rm", "--network", "host", "box", "get", outside).stdout == "hello\n"
	})
	c.is("web", "ps", "-f", "publish=80", "--format", "{{.Names}}")
	c.is("", "ps", "-f", "publish=80/udp", "--format", "{{.Names}}")
	c.fails(125, "27651", "run", "--rm", "-p", "27651:1", "box", "true")
	c.ok("stop", "-t", "0", "web")
	c.is("", "port", "web")
	c.is("", "ps", "-a", "--format", "{{.Ports}}")

	r := c.run("run", "--rm", "--network", "host", "-p", "80:80", "-P", "box", "true")
	if r.code != 0 || r.stderr != "WARNING: Published ports are discarded when using host network mode\n" {
		t.Errorf("ports of a container in the host's network: %+v", r)
	}
}
