package dns

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	tA    = dnsmessage.TypeA
	tAAAA = dnsmessage.TypeAAAA
	tPTR  = dnsmessage.TypePTR
)

func (l *lab) want(name string, qtype dnsmessage.Type, rcode dnsmessage.RCode, texts ...string) {
	l.t.Helper()
	a := l.ask(name, qtype)
	slices.Sort(a.texts)
	slices.Sort(texts)
	if a.rcode != rcode || !slices.Equal(a.texts, texts) || !a.edns {
		l.t.Errorf("%s %v: %+v, want %v %v", name, qtype, a, rcode, texts)
	}
}

func TestNames(t *testing.T) {
	up := newUpstream(t, nil, says("192.0.2.99"))
	l := newLab(t, Config{
		Networks: []Network{user("app"), user("Back.End"), {Name: "bridge", Forward: true}},
		Upstream: Upstream{Servers: []string{up.addr}, Host: true},
	})
	l.attach("app", []string{"web", "0123456789ab", "w.example"}, "10.1.0.2", "fd00:1::2")
	l.attach("app", []string{"old"}, "10.1.0.3")
	l.attach("Back.End", []string{"db"}, "10.2.0.2", "fd00:2::2")
	l.attach("Back.End", []string{"web2", "old"}, "10.2.0.9", "fd00:2::9")
	l.attach("bridge", []string{"plain"}, "172.17.0.2")

	for _, n := range []string{"web.", "WEB.", "wEb.App.", "0123456789ab.", "w.example.", "w.example.app."} {
		l.want(n, tA, dnsmessage.RCodeSuccess, "10.1.0.2")
		l.want(n, tAAAA, dnsmessage.RCodeSuccess, "fd00:1::2")
	}
	l.want("db.back.end.", tA, dnsmessage.RCodeSuccess, "10.2.0.2")
	l.want("web.", dnsmessage.TypeALL, dnsmessage.RCodeSuccess, "10.1.0.2", "fd00:1::2")
	l.want("web.", dnsmessage.TypeMX, dnsmessage.RCodeSuccess) // known, so never upstream
	l.want("old.", tA, dnsmessage.RCodeSuccess, "10.1.0.3")    // the first network wins
	l.want("old.", tAAAA, dnsmessage.RCodeSuccess, "fd00:2::9")
	l.want("old.app.", tAAAA, dnsmessage.RCodeSuccess)
	l.want("2.0.1.10.in-addr.arpa.", tPTR, dnsmessage.RCodeSuccess, "web.app.")
	l.want("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.", tPTR, dnsmessage.RCodeSuccess, "db.back.end.")
	if n := up.count(); n != 0 {
		t.Errorf("%d queries for our names went upstream", n)
	}
	for _, n := range []string{"plain.", "plain.bridge.", "web.back.end.", "nobody."} {
		l.want(n, tA, dnsmessage.RCodeSuccess, "192.0.2.99")
	}
}

// TestVisible checks that a change is seen by the very next query.
func TestVisible(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}, {Name: "late", Names: true}}})
	dir := attachment.Dir(l.state, "app")
	l.want("web.", tA, dnsmessage.RCodeNameError) // no directory yet
	l.attach("app", []string{"web"}, "10.1.0.2")
	eventually(t, func() bool { return len(l.ask("web.", tA).texts) == 1 })
	for i := range 50 {
		ip := fmt.Sprintf("10.1.0.%d", i+3)
		l.attach("app", []string{"web"}, ip)
		l.want("web.", tA, dnsmessage.RCodeSuccess, ip)
	}
	for name, data := range map[string]string{"bad.eth0.json": "{", ".tmp-1": "{}", "new.eth0.json": `{"version":99}`, "none.eth0.json": `{"version":1}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.52")
	if err := os.WriteFile(filepath.Join(dir, "web.eth0.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.want("web.", tA, dnsmessage.RCodeNameError)
	l.attach("app", []string{"web", "alias"}, "10.1.0.2")
	l.attach("app", []string{"web2", "alias"}, "10.1.0.3")
	l.want("alias.", tA, dnsmessage.RCodeSuccess, "10.1.0.2", "10.1.0.3")
	l.detach("app", "web")
	l.want("alias.", tA, dnsmessage.RCodeSuccess, "10.1.0.3")
	l.want("web.", tA, dnsmessage.RCodeNameError)

	if err := os.Rename(dir, dir+".gone"); err != nil { // the network is removed, and made again
		t.Fatal(err)
	}
	l.want("web2.", tA, dnsmessage.RCodeNameError)
	l.attach("app", []string{"web3"}, "10.1.0.4")
	eventually(t, func() bool { return len(l.ask("web3.", tA).texts) == 1 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.want("web3.", tA, dnsmessage.RCodeNameError)
}

// eventually is for what may take a look or two, 20 ms apart.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it did not come about")
}

// TestWithoutInotify has no inotify instance left.
func TestWithoutInotify(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	l.zone.mu.Lock()
	l.zone.polling = true
	l.zone.mu.Unlock()
	for i := range 20 {
		ip := fmt.Sprintf("10.1.0.%d", i+3)
		l.attach("app", []string{"web"}, ip)
		eventually(t, func() bool { return slices.Equal(l.ask("web.", tA).texts, []string{ip}) })
	}
	l.detach("app", "web")
	eventually(t, func() bool { return l.ask("web.", tA).rcode == dnsmessage.RCodeNameError })
}

// TestOverflow makes the kernel lose events.
func TestOverflow(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	l.attach("app", []string{"web"}, "10.1.0.2")
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.2")
	dir := attachment.Dir(l.state, "app")
	for i := range 9000 { // two events each; the queue takes 16384
		name := filepath.Join(dir, fmt.Sprintf("%d", i))
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	l.detach("app", "web")
	l.attach("app", []string{"db"}, "10.1.0.3")
	l.want("web.", tA, dnsmessage.RCodeNameError)
	l.want("db.", tA, dnsmessage.RCodeSuccess, "10.1.0.3")
}

func TestIdleGivesNamesUp(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	l.attach("app", []string{"web"}, "10.1.0.2")
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.2")
	l.zone.mu.Lock()
	l.zone.used = time.Now().Add(-namesIdle)
	l.zone.mu.Unlock()
	l.zone.expire()
	l.zone.mu.Lock()
	if z := &l.zone; z.inotify >= 0 || z.dirs[0].files != nil || z.idle != nil {
		t.Error("names or watches are left")
	}
	l.zone.mu.Unlock()
	l.attach("app", []string{"web"}, "10.1.0.3")
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.3")
}

func TestRoundRobin(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{user("app")}})
	for i := range 4 {
		l.attach("app", []string{fmt.Sprintf("web%d", i), "web"}, fmt.Sprintf("10.1.0.%d", i+2))
	}
	first := map[string]int{}
	for range 40 {
		a := l.ask("web.", tA)
		if len(a.texts) != 4 {
			t.Fatal(a)
		}
		first[a.texts[0]]++
	}
	for ip, n := range first {
		if n != 10 {
			t.Errorf("%s came first %d times of 40", ip, n)
		}
	}
}

func TestSizes(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{user("app")}})
	for i := range 199 {
		l.attach("app", []string{fmt.Sprintf("web%d", i), "web"}, fmt.Sprintf("10.1.0.%d", i+2))
	}
	for _, c := range []struct {
		network   string
		size      int
		truncated bool
		answers   int
		most      int
	}{
		{"udp", 0, true, (512 - 12 - 9) / 16, 512}, {"udp", 100, true, (512 - 12 - 9 - 11) / 16, 512},
		{"udp", 1232, true, (1232 - 12 - 9 - 11) / 16, 1232}, {"udp", 4096, false, 199, 4096}, {"udp", 65535, false, 199, 4096},
		{"tcp", 0, false, 199, 65535}, {"tcp", 512, false, 199, 65535},
	} {
		a := unpack(t, exchange(t, l.dial(c.network), question(t, "web.", tA, c.size)))
		if a.truncated != c.truncated || len(a.texts) != c.answers || a.size > c.most || a.edns != (c.size > 0) {
			t.Errorf("%+v: %v %d answers, %d bytes", c, a.truncated, len(a.texts), a.size)
		}
	}
	c := l.dial("tcp") // several queries in one connection
	for range 3 {
		if a := unpack(t, exchange(t, c, question(t, "web7.", tA, 0))); len(a.texts) != 1 {
			t.Error(a)
		}
	}
}

func TestSetNetworks(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	l.attach("app", []string{"web"}, "10.1.0.2")
	l.attach("back", []string{"db"}, "10.2.0.2")
	l.want("db.", tA, dnsmessage.RCodeNameError)
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.2")
	l.SetNetworks([]Network{{Name: "back", Names: true}, {Name: "app", Names: true}})
	l.want("db.", tA, dnsmessage.RCodeSuccess, "10.2.0.2")
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.2")
	l.SetNetworks([]Network{{Name: "back", Names: true}})
	l.want("web.", tA, dnsmessage.RCodeNameError)
	l.attach("app", []string{"web"}, "10.1.0.3")
	l.SetNetworks([]Network{{Name: "app", Names: true, Forward: true}})
	l.want("web.", tA, dnsmessage.RCodeSuccess, "10.1.0.3")
	l.want("nobody.", tA, dnsmessage.RCodeServerFailure) // to be passed on, but there is nobody
}

func TestBadQueries(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	l.attach("app", []string{"web"}, "10.1.0.2")
	good := question(t, "web.", tA, 1232)
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	for name, c := range map[string]struct {
		msg   []byte
		rcode dnsmessage.RCode
	}{
		"opcode":       {edit(func(b []byte) []byte { b[2] |= 2 << 3; return b }), dnsmessage.RCodeNotImplemented},
		"no question":  {edit(func(b []byte) []byte { b[5] = 0; return b }), dnsmessage.RCodeFormatError},
		"two":          {edit(func(b []byte) []byte { b[5] = 2; return b }), dnsmessage.RCodeFormatError},
		"cut":          {good[:20], dnsmessage.RCodeFormatError},
		"header only":  {good[:12], dnsmessage.RCodeFormatError},
		"pointer":      {edit(func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }), dnsmessage.RCodeFormatError},
		"edns version": {edit(func(b []byte) []byte { b[len(b)-5] = 1; return b }), dnsmessage.RCodeSuccess}, // BADVERS in the OPT record
		"class":        {edit(func(b []byte) []byte { b[20] = 3; return b }), dnsmessage.RCodeNameError},
	} {
		for _, network := range []string{"udp", "tcp"} {
			a := unpack(t, exchange(t, l.dial(network), c.msg))
			if a.rcode != c.rcode || len(a.texts) != 0 {
				t.Errorf("%s by %s: %+v", name, network, a)
			}
		}
	}
	c := l.dial("udp")
	for _, silent := range [][]byte{{}, {1}, good[:11], edit(func(b []byte) []byte { b[2] |= 0x80; return b }), []byte(strings.Repeat("x", 9000))} {
		c.Write(silent)
	}
	if a := unpack(t, exchange(t, c, good)); len(a.texts) != 1 { // the only answer
		t.Error(a)
	}
}

// TestManyClients opens more TCP connections than are served and then has one
// in its turn.
func TestManyClients(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	var all []net.Conn
	for range maxConns + 10 {
		all = append(all, l.dial("tcp"))
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, func() bool {
		l.Server.mu.Lock()
		defer l.Server.mu.Unlock()
		return len(l.Server.conns) == 0
	})
	if a := unpack(t, exchange(t, l.dial("tcp"), question(t, "nobody.", tA, 0))); a.rcode != dnsmessage.RCodeNameError {
		t.Error(a)
	}
}

// TestPort53IsFree has a server of the container's own beside the resolver.
func TestPort53IsFree(t *testing.T) {
	l := newLab(t, Config{Networks: []Network{{Name: "app", Names: true}}})
	err := within(int(l.ns.Fd()), func() error {
		pc, err := net.ListenPacket("udp", "0.0.0.0:53")
		if err == nil {
			err = pc.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
