package nft_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/nft"
	. "github.com/amphora-go/amphora/internal/nft/netlab"
)

func TestLegacy(t *testing.T) {
	t.Parallel()
	n := New(t, "host")
	legacy := func(bridges ...string) (found []nft.Chain) {
		t.Helper()
		must(t, n.Do(func() (err error) { found, err = nft.Legacy(bridges...); return err }))
		return found
	}
	if got := legacy("amp1"); len(got) != 0 {
		t.Errorf("in an empty namespace: %+v", got)
	}
	for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
		run := func(args string) {
			t.Helper()
			var out []byte
			err := n.Do(func() (err error) {
				out, err = exec.Command(tool, strings.Fields(args)...).CombinedOutput()
				return err
			})
			if err != nil && strings.Contains(string(out), "Perhaps iptables or your kernel") {
				t.Skip("this kernel has no iptables-legacy: ", string(out))
			}
			must(t, err)
		}
		for _, c := range []struct {
			set  string
			want bool
		}{
			{"-P FORWARD ACCEPT", false},
			{"-A FORWARD -p tcp -j DROP", false}, // with a condition
			{"-A FORWARD -i eth7 -j DROP", false},
			{"-P FORWARD DROP", true},
			{"-A FORWARD -p udp -j ACCEPT", true},
			{"-A FORWARD -i amp+ -j ACCEPT", true},
			{"-A FORWARD -o amp7 -j ACCEPT", true},
			{"-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", true},
			{"-A FORWARD -j ACCEPT", false},
			{"-F FORWARD", true},
			{"-P FORWARD ACCEPT", false},
			{"-A FORWARD -j REJECT", true},
		} {
			run(c.set)
			got := legacy("amp1", "mine0")
			if (len(got) == 1) != c.want {
				t.Errorf("%s %s: %+v, want %v", tool, c.set, got, c.want)
			}
		}
		got := legacy("amp1", "mine0")
		if len(got) != 1 {
			continue
		}
		if !strings.HasPrefix(got[0].Command, tool+" -I FORWARD -i amp+ ") {
			t.Errorf("command %s", got[0].Command)
		}
		must(t, n.Do(func() error { return exec.Command("sh", "-c", got[0].Command).Run() }))
		if got := legacy("amp1", "mine0"); len(got) != 0 {
			t.Errorf("the command did not help: %+v", got)
		}
		run("-F FORWARD")
	}
}
