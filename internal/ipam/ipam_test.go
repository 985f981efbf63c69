//go:build unix

package ipam

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Child("crowd", childCrowd)
	testenv.Child("one", childOne)
	testenv.Main(m)
}

func set(subnet string, bounds ...string) Set {
	r := Range{Subnet: netip.MustParsePrefix(subnet)}
	if len(bounds) > 0 {
		r.Start, r.End = netip.MustParseAddr(bounds[0]), netip.MustParseAddr(bounds[1])
	}
	return Set{r}
}

var dual = []Set{set("10.1.2.0/24"), set("fd00:1::/64")}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func key(id string) Key { return Key{ID: id, IfName: "eth0"} }

// give allocates and fails the test when it cannot.
func give(t testing.TB, s *Store, sets []Set, w Want) []netip.Addr {
	t.Helper()
	leases, err := s.Allocate(context.Background(), "net", sets, w)
	if err != nil {
		t.Fatal(err)
	}
	var all []netip.Addr
	for _, l := range leases {
		all = append(all, l.Prefix.Addr())
	}
	return all
}

func TestAllocateAndRelease(t *testing.T) {
	dir := testenv.Dir(t)
	s := Open(dir)
	leases, err := s.Allocate(t.Context(), "net", dual, Want{Key: key("a")})
	if err != nil {
		t.Fatal(err)
	}
	want := []Lease{
		{netip.MustParsePrefix("10.1.2.2/24"), addr("10.1.2.1")},
		{netip.MustParsePrefix("fd00:1::2/64"), addr("fd00:1::1")},
	}
	if !slices.Equal(leases, want) {
		t.Fatalf("%v, want %v", leases, want)
	}
	// The format of host-local.
	for name, content := range map[string]string{"10.1.2.2": "a\r\neth0", "fd00:1::2": "a\r\neth0", "last_reserved_ip.0": "10.1.2.2", "last_reserved_ip.1": "fd00:1::2", "lock": ""} {
		if data, err := os.ReadFile(filepath.Join(dir, "net", name)); err != nil || string(data) != content {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if held, err := s.Held(t.Context(), "net", key("a")); err != nil || len(held) != 2 {
		t.Errorf("Held: %v, %v", held, err)
	}
	if _, err := s.Allocate(t.Context(), "net", dual, Want{Key: key("a")}); !errors.Is(err, ErrAttached) {
		t.Errorf("twice: %v", err)
	}
	for range 2 {
		if err := s.Release(t.Context(), "net", key("a")); err != nil {
			t.Fatal(err)
		}
	}
	if got := give(t, s, dual, Want{Key: key("b")}); got[0] != addr("10.1.2.3") {
		t.Errorf("an address was used again at once: %v", got)
	}
	if err := s.Drop(t.Context(), "net"); err == nil || !strings.Contains(err.Error(), "b/eth0") {
		t.Errorf("Drop of a network in use: %v", err)
	}
	if err := s.Release(t.Context(), "net", key("b")); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(t.Context(), "net"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "[^.]*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDemands(t *testing.T) {
	s := Open(testenv.Dir(t))
	sets := []Set{set("10.1.2.0/24", "10.1.2.10", "10.1.2.20"), set("fd00:1::/64")}
	if got := give(t, s, sets, Want{Key: key("a"), Addresses: []netip.Addr{addr("fd00:1::99"), addr("10.1.2.200")}}); got[0] != addr("10.1.2.200") || got[1] != addr("fd00:1::99") {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		addresses []string
		kind      error
		text      string
	}{
		{[]string{"10.1.2.200"}, fs.ErrExist, "in use by a/eth0"},
		{[]string{"10.1.3.1"}, fs.ErrInvalid, "outside of network net, which has 10.1.2.0/24, fd00:1::/64"},
		{[]string{"10.1.2.1"}, fs.ErrInvalid, "gateway"},
		{[]string{"10.1.2.0"}, fs.ErrInvalid, "itself"},
		{[]string{"10.1.2.255"}, fs.ErrInvalid, "broadcast"},
		{[]string{"10.1.2.5", "10.1.2.6"}, fs.ErrInvalid, "only one"},
		{[]string{"10.1.2.77"}, fs.ErrExist, "promised"},
	} {
		w := Want{Key: key("b"), Taken: func(a netip.Addr) (bool, error) { return a == addr("10.1.2.77"), nil }}
		for _, a := range c.addresses {
			w.Addresses = append(w.Addresses, addr(a))
		}
		if _, err := s.Allocate(t.Context(), "net", sets, w); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.addresses, err)
		}
	}
	all, err := s.Leases("net")
	if err != nil || len(all) != 2 {
		t.Errorf("after failures: %v, %v", all, err)
	}
}

func TestPreferAndTaken(t *testing.T) {
	s := Open(testenv.Dir(t))
	prefer := []netip.Addr{addr("192.0.2.1"), addr("10.1.2.30"), addr("10.1.2.31"), addr("fd00:1::30")}
	if got := give(t, s, dual, Want{Key: key("a"), Prefer: prefer}); got[0] != addr("10.1.2.30") || got[1] != addr("fd00:1::30") {
		t.Errorf("free: %v", got)
	}
	if got := give(t, s, dual, Want{Key: key("b"), Prefer: prefer}); got[0] != addr("10.1.2.31") || got[1] != addr("fd00:1::2") {
		t.Errorf("taken: %v", got)
	}
	taken := func(a netip.Addr) (bool, error) { return a == addr("10.1.2.2") || a == addr("10.1.2.3"), nil }
	if got := give(t, s, dual, Want{Key: key("c"), Taken: taken, Prefer: []netip.Addr{addr("10.1.2.3")}}); got[0] != addr("10.1.2.4") {
		t.Errorf("promised: %v", got)
	}
	boom := errors.New("boom")
	if _, err := s.Allocate(t.Context(), "net", dual, Want{Key: key("d"), Taken: func(netip.Addr) (bool, error) { return false, boom }}); !errors.Is(err, boom) {
		t.Errorf("error of Taken: %v", err)
	}
}

func TestExhaustedAndRound(t *testing.T) {
	s := Open(testenv.Dir(t))
	sets := []Set{{ // two pieces, with a hole between
		{Subnet: netip.MustParsePrefix("10.1.2.0/24"), Start: addr("10.1.2.1"), End: addr("10.1.2.3")},
		{Subnet: netip.MustParsePrefix("10.1.2.0/24"), Start: addr("10.1.2.9"), End: addr("10.1.2.9")},
	}}
	var got []netip.Addr
	for i := range 3 {
		got = append(got, give(t, s, sets, Want{Key: key(strconv.Itoa(i))})...)
	}
	if want := []netip.Addr{addr("10.1.2.2"), addr("10.1.2.3"), addr("10.1.2.9")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	_, err := s.Allocate(t.Context(), "net", sets, Want{Key: key("more")})
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "10.1.2.1-10.1.2.3, 10.1.2.9-10.1.2.9") {
		t.Errorf("exhausted: %v", err)
	}
	if held, _ := s.Held(t.Context(), "net", key("more")); len(held) > 0 {
		t.Errorf("a failed one has %v", held)
	}
	if err := s.Release(t.Context(), "net", key("1")); err != nil {
		t.Fatal(err)
	}
	if got := give(t, s, sets, Want{Key: key("more")}); got[0] != addr("10.1.2.3") {
		t.Errorf("round: %v", got)
	}
}

func TestBadRanges(t *testing.T) {
	for _, c := range []struct {
		sets []Set
		text string
	}{
		{nil, "at least one"},
		{[]Set{{}}, "empty"},
		{[]Set{{{}}}, "needs a subnet"},
		{[]Set{set("10.1.2.3/24")}, "say 10.1.2.0/24"},
		{[]Set{set("10.1.2.0/31")}, "too small"},
		{[]Set{set("fd00::/127")}, "too small"},
		{[]Set{set("10.1.2.0/24", "10.1.2.9", "10.1.2.3")}, "ends before"},
		{[]Set{set("10.1.2.0/24", "10.1.3.9", "10.1.3.10")}, "not in subnet"},
		{[]Set{set("10.1.2.0/24"), set("10.1.0.0/16")}, "overlap"},
		{[]Set{append(set("10.1.2.0/24"), set("fd00::/64")...)}, "families"},
	} {
		if _, err := Canonical(c.sets); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.sets, err)
		}
	}
	if _, err := Open(t.TempDir()).Allocate(t.Context(), "../x", dual, Want{Key: key("a")}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("name: %v", err)
	}
}

// What killed host-locals and damage leave.
func TestDamage(t *testing.T) {
	dir := testenv.Dir(t)
	s := Open(dir)
	net := filepath.Join(dir, "net")
	give(t, s, dual, Want{Key: key("a")})
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(net, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10.1.2.3", "")          // a killed host-local's
	write("10.1.2.4", "b\r\neth0") // a living one's, without index
	write("10.1.2.5", "old")       // of an old one: id alone
	write("last_reserved_ip.0", "\x00")
	write("strange", "x")
	if got := give(t, s, dual, Want{Key: key("c")}); got[0] != addr("10.1.2.3") {
		t.Errorf("an empty lease is not free: %v", got)
	}
	if got := give(t, s, dual, Want{Key: key("d")}); got[0] != addr("10.1.2.6") {
		t.Errorf("host-local's leases: %v", got)
	}
	for _, id := range []string{"b", "old"} {
		if held, err := s.Held(t.Context(), "net", key(id)); err != nil || len(held) != 1 {
			t.Errorf("%s holds %v, %v", id, held, err)
		}
	}
	if err := s.Release(t.Context(), "net", key("b")); err != nil {
		t.Fatal(err)
	}
	// The index says what is not so.
	os.WriteFile(filepath.Join(dir, ".index", "net", "d:eth0"), []byte("10.1.2.2\nnonsense\n10.1.2.6\n"), 0o600)
	if err := s.Release(t.Context(), "net", key("d")); err != nil {
		t.Fatal(err)
	}
	if held, err := s.Held(t.Context(), "net", key("a")); err != nil || len(held) != 2 {
		t.Errorf("another's lease went with a false index: %v, %v", held, err)
	}
	write("10.1.2.7", "")
	os.WriteFile(filepath.Join(dir, ".index", "net", ".tmp-1"), nil, 0o600)
	if err := s.GC(t.Context(), "net", []Key{key("a"), key("old")}); err != nil {
		t.Fatal(err)
	}
	all, err := s.Leases("net")
	if err != nil || len(all) != 3 || all[addr("10.1.2.5")].ID != "old" {
		t.Errorf("after GC: %v, %v", all, err)
	}
	if index, _ := os.ReadDir(filepath.Join(dir, ".index", "net")); len(index) != 1 {
		t.Errorf("index: %v", index)
	}
	// Without the index all goes on.
	if err := os.RemoveAll(filepath.Join(dir, ".index")); err != nil {
		t.Fatal(err)
	}
	give(t, s, dual, Want{Key: key("e")})
	if err := s.Release(t.Context(), "net", key("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.GC(t.Context(), "net", nil); err != nil {
		t.Fatal(err)
	}
	if all, _ := s.Leases("net"); len(all) > 0 {
		t.Errorf("left: %v", all)
	}
}

func TestContext(t *testing.T) {
	s := Open(testenv.Dir(t))
	unlock, err := s.lock(t.Context(), "net")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Allocate(ctx, "net", dual, Want{Key: key("a")}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Open(s.dir).Allocate(ctx, "net", dual, Want{Key: key("a")}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// One allocation and release, with so many leases there.
func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{10, 500, 5000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := Open(testenv.Dir(b))
			sets := []Set{set("10.0.0.0/16"), set("fd00::/64")}
			for i := range n {
				give(b, s, sets, Want{Key: key("full-" + strconv.Itoa(i))})
			}
			for b.Loop() {
				give(b, s, sets, Want{Key: key("x")})
				if err := s.Release(b.Context(), "net", key("x")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
