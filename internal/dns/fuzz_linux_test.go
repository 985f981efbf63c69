package dns

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// known fills a zone without files.
func known(networks ...string) *Server {
	s := &Server{zone: zone{inotify: -1, polling: true}}
	for i, n := range networks {
		e := &entry{names: []string{"web", "w.x"}, addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i), 0, 2}), netip.MustParseAddr("fd00::2")}}
		s.zone.dirs = append(s.zone.dirs, &directory{
			network: user(n), suffix: "." + n, watch: -1, tried: time.Now().Add(time.Hour),
			names: map[string][]*entry{"web": {e}, "w.x": {e}}, addrs: map[netip.Addr]*entry{e.addrs[0]: e, e.addrs[1]: e},
		})
	}
	return s
}

// FuzzRespond gives the server any bytes. What it answers must be a message
// that another implementation reads, of the size allowed, for the question
// asked.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"web.", "w.x.app.", "nobody.example.", "2.0.0.10.in-addr.arpa.", "2" + strings.Repeat(".0", 27) + ".0.0.d.f.ip6.arpa.", "."} {
		for _, qtype := range []dnsmessage.Type{tA, tAAAA, tPTR, dnsmessage.TypeALL} {
			f.Add(question(f, name, qtype, 0))
			f.Add(question(f, name, qtype, 1232))
		}
	}
	s := known("app", "back.end")
	f.Cleanup(s.zone.close)
	var w worker
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, tcp := range []bool{false, true} {
			out, forward := s.respond(&w, msg, tcp)
			if forward || len(out) == 0 {
				if forward {
					t.Fatal("forwarded without a network that does")
				}
				continue
			}
			if !tcp && len(out) > w.q.size {
				t.Fatalf("%d bytes for a client that takes %d", len(out), w.q.size)
			}
			var p dnsmessage.Parser
			p.Start(msg)
			if _, err := p.AllQuestions(); err != nil && out[5] != 0 {
				continue // it refuses names with dots within labels, which are repeated as they came
			}
			var m dnsmessage.Message
			if err := m.Unpack(out); err != nil {
				t.Fatalf("%x: %v", out, err)
			}
			if out[0] != msg[0] || out[1] != msg[1] || !m.Response {
				t.Fatalf("%x to %x", out, msg)
			}
			var in dnsmessage.Message
			if in.Unpack(msg) == nil && len(in.Questions) == 1 && in.OpCode == 0 && m.RCode != dnsmessage.RCodeFormatError && m.Questions[0] != in.Questions[0] {
				t.Fatalf("question %v for %v", m.Questions, in.Questions)
			}
			answers(out, msg)
			answers(msgOf(msg), out)
		}
	})
}

// msgOf is at least a header, as what comes from upstream is.
func msgOf(msg []byte) []byte { return append(msg[:len(msg):len(msg)], make([]byte, headerSize)...) }

// TestPanicIsAnAnswerLost checks that a mistake in here costs one answer.
func TestPanicIsAnAnswerLost(t *testing.T) {
	s := known("app")
	defer s.zone.close()
	s.zone.dirs[0].names["web"] = []*entry{nil}
	var w worker
	s.datagram(&w, question(t, "web.", tA, 0), netip.AddrPort{})
	if out, _ := s.respond(&w, question(t, "w.x.", tA, 0), false); len(unpack(t, out).texts) != 1 {
		t.Error("the next query is not answered")
	}
}

func TestReverse(t *testing.T) {
	for name, want := range map[string]string{
		"4.3.2.1.in-addr.arpa": "1.2.3.4", "255.0.0.10.in-addr.arpa": "10.0.0.255",
		"3.2.1.in-addr.arpa": "", "5.4.3.2.1.in-addr.arpa": "", "256.3.2.1.in-addr.arpa": "", "..2.1.in-addr.arpa": "",
		"1111.3.2.1.in-addr.arpa": "", "in-addr.arpa": "", "x.3.2.1.in-addr.arpa": "", ".in-addr.arpa": "",
		"2" + strings.Repeat(".0", 27) + ".0.0.d.f.ip6.arpa": "fd00::2", "2" + strings.Repeat("x0", 27) + ".0.0.d.f.ip6.arpa": "",
		"g" + strings.Repeat(".0", 27) + ".0.0.d.f.ip6.arpa": "", "0.ip6.arpa": "",
	} {
		got, ok := reverse([]byte(name))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
}
