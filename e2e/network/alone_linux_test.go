package network

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/nft/netlab"
	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
)

// output runs a program and returns the first line that it prints.
func output(argv ...string) (string, error) {
	text, err := exec.Command(argv[0], argv[1:]...).Output()
	line, _, _ := strings.Cut(string(text), "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = errors.Join(err, errors.New(string(exit.Stderr)))
	}
	return strings.TrimSpace(line), err
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	line, err := output(argv...)
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return line
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(p + " is not installed")
		}
	}
}

// TestAlone has no other engine beside, but other people's firewalls.
func TestAlone(t *testing.T) {
	need(t, "nft")
	if !reach.Isolated(t) {
		return
	}
	e := open(t)
	w := reach.NewWorld(t, e)
	p := newPart(t, "Alone")
	p.ask(w, "Nothing else runs")
	attack(p, w)
	flush(p, w, e)
	block(p, w, e, "nft", "add table inet other; add chain inet other forward { type filter hook forward priority 10; policy drop; }")
	if _, err := exec.LookPath("iptables-legacy"); err == nil {
		block(p, w, e, "iptables-legacy", "-P FORWARD DROP")
	}
}

// attack tries what must fail, under both settings of bridge-nf-call-iptables.
func attack(p *part, w *reach.World) {
	p.t.Helper()
	clean := true
	for _, bridgeNF := range []bool{false, true} {
		w.BridgeNF(bridgeNF)
		for _, through := range w.Attacks() {
			clean = false
			p.t.Errorf("bridge-nf-call-iptables %v: %s", bridgeNF, through)
		}
	}
	if clean {
		p.say("Attacks by a container that may do anything in its own namespace, with bridge-nf-call-iptables = 0 and 1, none of which got through: the host's service on 127.0.0.1 " +
			"by a route for 127.0.0.1 via the gateway; the source address of a container of another network, and of somebody outside, by IPv4 and IPv6.")
	}
}

// published is whether the port published on all addresses answers from outside.
func published(w *reach.World, network, host string) bool {
	server, _, err := w.Outside.AskFrom(network, "", netlab.Addr(host, 8080), 2*time.Second)
	return err == nil && server == "web"
}

// flush is what a restart of nftables.service does.
func flush(p *part, w *reach.World, e *engine) {
	p.t.Helper()
	run(p.t, "nft", "flush", "ruleset")
	for _, network := range []string{"tcp", "udp"} {
		for _, host := range []string{netlab.HostV4, netlab.HostV6} {
			if !published(w, network, host) {
				p.t.Errorf("after nft flush ruleset %s %s:8080 does not answer", network, host)
			}
		}
	}
	p.say("After `nft flush ruleset` published ports go on answering from outside, by TCP and UDP, IPv4 and IPv6: the supervisors' sockets serve them. Nothing is masqueraded and " +
		"networks are not isolated until `network reload`, or until a container is attached.")
	e.reload()
	p.again(w, "After `network reload`")
}

// block has somebody else's filter drop what is forwarded: Check names it, and
// the command that it gives helps.
func block(p *part, w *reach.World, e *engine, tool, command string) {
	p.t.Helper()
	args := strings.Fields(command)
	if tool == "nft" {
		args = []string{command}
	}
	run(p.t, append([]string{tool}, args...)...)
	if published(w, "tcp", netlab.HostV4) {
		p.t.Errorf("%s %s blocked nothing", tool, command)
	}
	found := e.firewalls()
	if len(found) != 1 {
		p.t.Fatalf("%s %s: Check found %v", tool, command, found)
	}
	p.say("With `%s %s` nothing is forwarded any more. `Check` says: %s. It gives the command `%s`.", tool, command, found[0].Problem, found[0].Cure)
	run(p.t, "sh", "-c", found[0].Cure)
	if found := e.firewalls(); len(found) > 0 {
		p.t.Errorf("Check still finds %v", found)
	}
	p.again(w, "After that command")
}
