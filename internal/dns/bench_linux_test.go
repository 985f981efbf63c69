package dns

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/testenv"
)

func BenchmarkRespond(b *testing.B) {
	s := known("app")
	defer s.zone.close()
	var w worker
	msg := question(b, "web.", tA, 1232)
	b.ReportAllocs()
	for b.Loop() {
		if out, _ := s.respond(&w, msg, false); len(out) == 0 {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkLocal and BenchmarkForward ask over the network: 8 clients, 64
// queries outstanding, as dnsperf does.
func BenchmarkLocal(b *testing.B) {
	l := newLab(b, Config{Networks: []Network{user("app")}})
	l.attach("app", []string{"web"}, "10.1.0.2")
	load(b, l, question(b, "web.", tA, 1232))
}

func BenchmarkForward(b *testing.B) {
	up := newUpstream(b, nil, says("192.0.2.1"))
	l := forwarding(b, Upstream{Servers: []string{up.addr}, Host: true})
	load(b, l, question(b, "example.com.", tA, 1232))
}

func load(b *testing.B, l *lab, msg []byte) {
	const clients, outstanding = 8, 8
	testenv.Root(b)
	done := make(chan error, clients)
	b.ResetTimer()
	start := time.Now()
	for i := range clients {
		c := l.dial("udp")
		n := (b.N + i) / clients
		go func() {
			msg, buf := append([]byte(nil), msg...), make([]byte, 4096)
			sent, got := 0, 0
			for ; sent < min(n, outstanding); sent++ {
				c.Write(msg)
			}
			for ; got < n; got++ {
				if _, err := c.Read(buf); err != nil {
					done <- err
					return
				}
				if sent < n {
					c.Write(msg)
					sent++
				}
			}
			done <- nil
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "q/s")
}

// BenchmarkFirst is the first query on a network of 5000 containers, which reads
// all their files, and the one after a change, which reads one.
func BenchmarkFirst(b *testing.B) {
	l := newLab(b, Config{Networks: []Network{{Name: "app", Names: true}}})
	for i := range 5000 {
		l.attach("app", []string{fmt.Sprintf("web%d", i), fmt.Sprintf("%012x", i)}, fmt.Sprintf("10.1.%d.%d", i/250, i%250+1))
	}
	var w worker
	msg := question(b, "web7.", tA, 1232)
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			l.zone.mu.Lock()
			l.zone.drop()
			l.zone.mu.Unlock()
			l.respond(&w, msg, false)
		}
	})
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			l.attach("app", []string{"web7", "000000000007"}, "10.1.0.8")
			l.respond(&w, msg, false)
		}
	})
}

// BenchmarkIdle prints what a server costs that nobody has asked yet, and one
// that was asked: heap and stacks, in bytes.
func BenchmarkIdle(b *testing.B) {
	const servers = 100
	ns := namespace(b)
	c := Config{State: testenv.Dir(b), Networks: []Network{user("app")}, Upstream: Upstream{Servers: []string{"192.0.2.1"}}}
	lead := func(int, netipAddr, uint16, uint16) error { return nil }
	for b.Loop() {
		before := memory()
		var all []*Server
		for range servers {
			s, err := listen(ns, &c, lead)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, s)
		}
		b.ReportMetric((memory()-before)/servers, "idleB/server")
		var w [servers]worker
		msg := question(b, "web.", tA, 1232)
		before = memory()
		for i, s := range all {
			s.forward.Store(false)
			s.respond(&w[i], msg, false)
		}
		b.ReportMetric((memory()-before)/servers, "askedB/server")
		for _, s := range all {
			s.Close()
		}
	}
}

func memory() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
