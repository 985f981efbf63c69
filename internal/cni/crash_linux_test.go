package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/nft"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

// outside is a path of a namespace that other processes can use.
func outside(ns string) string {
	return fmt.Sprintf("/proc/%d/%s", os.Getpid(), strings.TrimPrefix(ns, "/proc/self/"))
}

// plans lists every passage of a step, once.
func plans(names []string) []step.Plan {
	passed := map[string]int{}
	var all []step.Plan
	for _, n := range names {
		all = append(all, step.Plan{Name: n, At: passed[n]})
		passed[n]++
	}
	return all
}

// A process killed at any point of ADD, DEL and GC leaves nothing that GC does
// not find, even though the namespace lives on, and the next ADD works.
func TestKilled(t *testing.T) {
	l := newRealLab(t)
	l.down()
	ns := newNS(t)
	req := &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0", Ports: []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}}
	del := &Request{Conflist: l.conflist(), ID: "c1", NetNS: ns, IfName: "eth0"}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func() { t.Helper(); _, err := l.Add(t.Context(), req); do(err) }
	cold := func() { t.Helper(); do(l.Down(context.Background(), l.conflist())) }
	for op, run := range map[string]struct {
		prepare, run func()
		child        string
	}{
		"add": {cold, add, "add"},
		"del": {add, func() { do(l.Del(t.Context(), del)) }, "del"},
		"gc":  {add, func() { do(l.GC(t.Context(), l.conflist(), nil)) }, "gc"},
	} {
		run.prepare()
		points := testenv.Points(run.run)
		do(l.GC(t.Context(), l.conflist(), nil))
		if len(points) < 3 {
			t.Fatalf("%s: points %q", op, points)
		}
		for _, plan := range plans(points) {
			run.prepare()
			r := testenv.RunChild(t, run.child, plan, l.childArgs("c1", outside(ns))...)
			if !r.Killed {
				t.Fatalf("%s at %v: %+v", op, plan, r)
			}
			do(l.GC(t.Context(), l.conflist(), nil))
			l.clean(fmt.Sprintf("%s killed at %s %d", op, plan.Name, plan.At))
			add()
			do(l.Check(t.Context(), del))
			do(l.Del(t.Context(), del))
			l.clean("after all")
		}
		t.Logf("%s: %d points", op, len(points))
	}
}

// A process killed while it makes or removes a bridge: Up and Down both work
// after.
func TestKilledUp(t *testing.T) {
	l := newRealLab(t)
	for _, op := range []string{"up", "down"} {
		prepare, run := l.Down, l.Up
		if op == "down" {
			prepare, run = run, prepare
		}
		must := func(f func(context.Context, []byte) error) {
			t.Helper()
			if err := f(context.Background(), l.conflist()); err != nil {
				t.Fatal(err)
			}
		}
		must(prepare)
		for _, plan := range plans(testenv.Points(func() { must(run) })) {
			for _, then := range []string{"up", "down"} {
				must(prepare)
				r := testenv.RunChild(t, "up", plan, l.childArgs(op)...)
				if !r.Killed {
					t.Fatalf("%s at %v: %+v", op, plan, r)
				}
				if then == "up" {
					must(l.Up)
					n, err := l.CNI.network(l.conflist())
					if err != nil {
						t.Fatal(err)
					}
					h, err := openNetlink()
					if err != nil {
						t.Fatal(err)
					}
					if _, err := checkBridge(h, n); err != nil {
						t.Errorf("%s killed at %s: %v", op, plan.Name, err)
					}
					h.Close()
				}
				must(l.Down)
				if links := hostLinks(t, l.bridge()); len(links) > 0 {
					t.Errorf("%s killed at %s: left %q", op, plan.Name, links)
				}
			}
		}
	}
}

// DEL and GC of attachments whose cache entry is damaged or gone.
func TestDamagedCache(t *testing.T) {
	l := newRealLab(t)
	l.down()
	publish := func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}} }
	for _, damage := range []string{"", `{"kind":"cniCacheV1","containerId"`, `{}`, "gone"} {
		for _, how := range []string{"del", "gc", "gc of another"} {
			ns := newNS(t)
			l.mustAdd("c1", ns, "eth0", publish)
			file := l.cacheFile(l.network(), &Request{ID: "c1", IfName: "eth0"})
			if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
				t.Fatal(err)
			}
			if damage == "gone" {
				os.Remove(file)
			}
			switch how {
			case "del":
				l.mustDel("c1", ns, "eth0")
			case "gc":
				if err := l.GC(t.Context(), l.conflist(), nil); err != nil {
					t.Fatal(err)
				}
			default:
				if err := l.GC(t.Context(), l.conflist(), []Key{{ID: "c1", IfName: "eth0"}}); err != nil {
					t.Fatal(err)
				}
				if len(l.portsOn()) != 1 || len(l.leaseFiles()) != 2 {
					t.Errorf("GC took a valid attachment: %v %v", l.portsOn(), l.leaseFiles())
				}
				l.mustDel("c1", ns, "eth0")
			}
			l.clean(fmt.Sprintf("%s with cache %q", how, damage))
		}
	}
}

// GC finds what plugins of others and killed ones left, and nothing of other
// networks.
func TestGCKeepsToItself(t *testing.T) {
	a, b := newLab(t), newLab(t)
	b.dir, b.id = a.dir, a.id // two networks of one Root
	b.table = a.table
	b.CNI = New(b.options(b.table))
	a.down()
	b.down()
	publish := func(port uint16) func(*Request) {
		return func(r *Request) { r.Ports = []Port{{Protocol: "tcp", HostPort: port, Container: 80}} }
	}
	a.mustAdd("c1", newNS(t), "eth0", publish(1))
	a.mustAdd("c2", newNS(t), "eth0", publish(2))
	b.mustAdd("c1", newNS(t), "eth0", publish(3))
	leases := filepath.Join(a.dir, "net", "leases", a.network())
	os.WriteFile(filepath.Join(leases, a.subnet4().Addr().Next().Next().Next().Next().Next().Next().String()), nil, 0o600)
	if err := a.GC(t.Context(), a.conflist(), []Key{{ID: "c2", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	if len(a.portsOn()) != 1 || len(a.leaseFiles()) != 2 || len(b.portsOn()) != 1 || len(b.leaseFiles()) != 2 || len(a.table.owners) != 2 {
		t.Errorf("%v %v %v %v %v", a.portsOn(), a.leaseFiles(), b.portsOn(), b.leaseFiles(), a.table.owners)
	}
	for _, l := range []*lab{a, b} {
		if err := l.GC(t.Context(), l.conflist(), nil); err != nil {
			t.Fatal(err)
		}
	}
	a.clean("a")
	b.clean("b")
}

// Owners that are too long for a link's alias.
func TestLongNames(t *testing.T) {
	l := newLab(t)
	long := strings.Repeat("n", 100)
	conflist := []byte(strings.ReplaceAll(string(l.conflist()), `"name":"`+l.network(), `"name":"`+long))
	id := strings.Repeat("c", 140) // with the network's, a cache file's name must fit, too
	keep, ns := newNS(t), newNS(t)
	l.mustAdd(id+"1", ns, "eth0", func(r *Request) { r.Conflist = conflist })
	res := l.mustAdd(id+"2", keep, "eth0", func(r *Request) { r.Conflist = conflist })
	if err := l.GC(t.Context(), conflist, []Key{{ID: id + "2", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	if got := l.portsOn(); len(got) != 1 || got[0] != res.HostLink {
		t.Errorf("%v, want %s alone", got, res.HostLink)
	}
	if err := l.Del(t.Context(), &Request{Conflist: conflist, ID: id + "2", NetNS: keep, IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	l.clean("after DEL")
	if err := l.Down(t.Context(), conflist); err != nil {
		t.Fatal(err)
	}
}

// Names that libcni's file names do not tell apart.
func TestAlikeNames(t *testing.T) {
	l := newLab(t)
	l.down()
	other := newLab(t)
	rename := func(l *lab, name string) []byte {
		return []byte(strings.ReplaceAll(string(l.conflist()), `"name":"`+l.network(), `"name":"`+name))
	}
	a, ab := rename(l, "a"), rename(other, "a-b")
	other.dir, other.id = l.dir, l.id
	other.table = l.table
	other.CNI = New(other.options(l.table))
	ns := newNS(t)
	l.mustAdd("b-c", ns, "eth0", func(r *Request) { r.Conflist = a })
	other.mustAdd("c", newNS(t), "eth0", func(r *Request) { r.Conflist = ab })
	if err := other.GC(t.Context(), ab, nil); err != nil {
		t.Fatal(err)
	}
	req := &Request{Conflist: a, ID: "b-c", NetNS: ns, IfName: "eth0"}
	for _, f := range []func(context.Context, *Request) error{l.Check, l.Del} {
		if err := f(t.Context(), req); err != nil {
			t.Error(err)
		}
	}
	for conflist, l := range map[string]*lab{string(a): l, string(ab): other} {
		if err := l.Down(t.Context(), []byte(conflist)); err != nil {
			t.Error(err)
		}
	}
}

// Five processes attach ten namespaces each, with neither bridge nor table
// there.
func TestCrowd(t *testing.T) {
	l := newRealLab(t)
	l.down()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	for p := range 5 {
		wg.Go(func() {
			r := testenv.RunChild(t, "crowd", step.Plan{}, l.childArgs(fmt.Sprint(p))...)
			if r.Code != 0 {
				t.Errorf("%+v", r)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, a := range strings.Fields(r.Stdout) {
				if seen[a] {
					t.Errorf("%s was given twice", a)
				}
				seen[a] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != 100 {
		t.Errorf("%d addresses, want 100", len(seen))
	}
	if files := l.leaseFiles(); len(files) > 0 {
		t.Errorf("leases %q", files)
	}
}

var _ Filter = (*nft.Table)(nil)
