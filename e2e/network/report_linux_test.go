package network

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/nft/netlab/reach"
)

// parts are the tests that write a part of the report, in its order.
var parts = []string{"TestAlone", "TestDocker", "TestPodman", "TestFirewalld"}

const out = "../out/network"

// part is what one test has to say.
type part struct {
	t    *testing.T
	text bytes.Buffer
}

// newPart begins the part of a test. It is kept if the test does not fail.
func newPart(t *testing.T, title string) *part {
	p := &part{t: t}
	fmt.Fprintf(&p.text, "## %s\n\n%s.\n", title, time.Now().UTC().Format(time.DateOnly))
	os.Remove(partFile(t.Name()))
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		if err := os.MkdirAll(out, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(partFile(t.Name()), p.text.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
	})
	return p
}

func partFile(test string) string { return filepath.Join(out, test+".md") }

func (p *part) say(format string, args ...any) {
	fmt.Fprintf(&p.text, "\n"+format+"\n", args...)
}

// ask asks everything, under both settings of bridge-nf-call-iptables where the
// kernel has it, and says so once if the answers are the same.
func (p *part) ask(w *reach.World, when string) {
	p.t.Helper()
	var first *reach.Table
	for _, bridgeNF := range []bool{false, true} {
		if !w.BridgeNF(bridgeNF) && bridgeNF {
			p.say("This kernel has no bridge-nf-call-iptables.")
			break
		}
		table := w.Ask()
		for _, wrong := range table.Wrong() {
			p.t.Errorf("%s, bridge-nf-call-iptables %v: %s", when, bridgeNF, wrong)
		}
		if first == nil {
			first = table
			asked, reached := table.Count()
			p.say("%s (%d questions, %d answered):\n\n%s", when, asked, reached, table.Markdown())
		} else if first.Same(table) {
			p.say("The same with bridge-nf-call-iptables = 0 and 1.")
		} else {
			p.say("With bridge-nf-call-iptables = 1:\n\n%s", table.Markdown())
		}
	}
}

// again asks everything once more; only what differs from the table above would
// be news, and wrong.
func (p *part) again(w *reach.World, when string) {
	p.t.Helper()
	wrong := w.Ask().Wrong()
	for _, wrong := range wrong {
		p.t.Errorf("%s: %s", when, wrong)
	}
	if len(wrong) == 0 {
		p.say("%s: all of it as in the table above.", when)
	}
}

const head = `# Who reaches what

Written by the suite e2e/network: ` + "`cd e2e && go test -count=1 ./network`" + `, as root, %s, Linux %s,
%s%s.

Containers run in three networks: *app*, *back*, and *inner*, which is internal. The rows are what is asked for, most of it in or of one container of *app*, which
serves ports 80 and 81 and publishes 80 as 8080 on all addresses of the host, as 8081 on 127.0.0.1 and [::1], and as 8082 on one address of the host. The columns
are who asks: the host itself, somebody outside (a namespace joined by a cable, which has routes to the containers' subnets), that container itself, its
neighbour in *app*, a container of *back*, and one of *inner*. Each cell is four questions: TCP and UDP, IPv4 and IPv6. "yes": all were answered, by the right one;
"–": none was, and none must be; "n/a": nothing to ask. The suite fails if any answer is otherwise than it says itself.

"By the gateway" is the address of the host on the asker's network; for the host and the outside, on *app*. The outside must see the host's address, not the
container's. Direct routing to a port that is not published is "its address" as asked from outside.
`

// The report is written when every part of it was, if not today: each has its
// date.
func TestReport(t *testing.T) {
	var name unix.Utsname
	unix.Uname(&name)
	var b bytes.Buffer
	fmt.Fprintf(&b, head, time.Now().UTC().Format(time.DateOnly), unix.ByteSliceToString(name.Release[:]), runtime.GOARCH, versions())
	for _, p := range parts {
		text, err := os.ReadFile(partFile(p))
		if err != nil {
			t.Skipf("docs/network.md stays as it is: %v", err)
		}
		b.WriteString("\n")
		b.Write(text)
	}
	if err := os.WriteFile("../../docs/network.md", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func versions() string {
	var b strings.Builder
	for _, argv := range [][]string{{"dockerd", "--version"}, {"podman", "--version"}, {"iptables", "--version"}, {"nft", "--version"}, {"firewall-cmd", "--version"}} {
		if line, err := output(argv...); err == nil {
			b.WriteString(", " + line)
		}
	}
	return b.String()
}
