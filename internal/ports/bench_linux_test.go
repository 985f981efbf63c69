package ports

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

// BenchmarkMemory prints what a held port costs: on the heap of the process,
// and in the kernel by the slabs that sockets are made of.
func BenchmarkMemory(b *testing.B) {
	testenv.Root(b)
	for _, protocol := range []string{"tcp", "udp"} {
		b.Run(protocol, func(b *testing.B) {
			wants := make([]Want, MaxHeld)
			for i := range wants {
				wants[i] = Want{Protocol: protocol, Port: uint16(20000 + i), Container: 80}
			}
			first := true // later rounds find the kernel's caches full
			for b.Loop() {
				if !first {
					continue
				}
				first = false
				before, slabs := heap(), slabBytes()
				h, err := Hold(b.Context(), wants)
				if err != nil {
					b.Fatal(err)
				}
				if err := h.Serve(to(netip.AddrPort{})); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(heap()-before)/MaxHeld, "heapB/port")
				b.ReportMetric(float64(slabBytes()-slabs)/MaxHeld, "kernelB/port")
				b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
				h.Close()
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// slabBytes sums the objects in use of the caches that a bound socket takes
// from; other processes' sockets disturb it.
func slabBytes() int64 {
	f, err := os.Open("/proc/slabinfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	sum := int64(0)
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 4 {
			continue
		}
		switch w[0] {
		case "TCPv6", "TCP", "UDPv6", "UDP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "eventpoll_pwq",
			"tcp_bind_bucket", "tcp_bind2_bucket", "kmalloc-64", "kmalloc-96", "kmalloc-128", "kmalloc-192", "kmalloc-256", "kmalloc-512", "kmalloc-1k", "kmalloc-2k":
			n, _ := strconv.ParseInt(w[1], 10, 64)
			size, _ := strconv.ParseInt(w[3], 10, 64)
			sum += n * size
		}
	}
	return sum
}

// BenchmarkHold is the price in Start of a container with one published port.
func BenchmarkHold(b *testing.B) {
	testenv.Root(b)
	for b.Loop() {
		h, err := Hold(b.Context(), []Want{{Protocol: "tcp", Container: 80}})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Serve(to(netip.AddrPort{})); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// BenchmarkProxy is the throughput of what the kernel does not translate.
func BenchmarkProxy(b *testing.B) {
	target := echo(b)
	h := hold(b, Want{Protocol: "tcp", Container: 80})
	if err := h.Serve(to(target)); err != nil {
		b.Fatal(err)
	}
	for name, at := range map[string]netip.AddrPort{"direct": target, "proxied": netip.AddrPortFrom(netip.IPv6Loopback(), h.Bound()[0].HostPort)} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, at.Addr().String(), at.Port())
			block := make([]byte, 256<<10)
			b.SetBytes(int64(len(block)))
			var wait sync.WaitGroup
			wait.Go(func() { io.CopyN(io.Discard, c, int64(b.N)*int64(len(block))) })
			for range b.N {
				c.Write(block)
			}
			wait.Wait()
		})
	}
}
