package networks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/testenv"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) {
	if testenv.OwnNetwork() {
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) // else the first use turns it on
	}
	testenv.Child("do", childDo)
	testenv.Child("crowd", childCrowd)
	testenv.Main(m)
}

func open(dir string) (*Store, error) {
	root, err := record.OpenRoot(context.Background(), filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	if err != nil {
		return nil, err
	}
	return Open(root), nil
}

// lab is a Root of its own.
type lab struct {
	*Store
	dir string
	ns  string // path of a namespace with nothing in it
}

func newLab(t testing.TB) *lab {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	s, err := open(dir)
	must(t, err)
	l := &lab{s, dir, namespace(t)}
	t.Cleanup(func() {
		all, err := l.List(context.Background())
		must(t, err)
		for _, n := range all {
			if n.Problem == "" && !n.Foreign {
				must(t, l.remove(context.Background(), n))
			}
		}
		must(t, l.GC(context.Background()))
	})
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// namespace makes a network namespace that lives as long as the test.
func namespace(t testing.TB) string {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
}

func (l *lab) want(network, id string) *Want {
	return &Want{Endpoint: record.Endpoint{Network: network}, ID: id, NetNS: l.ns, Interface: "eth0", Names: []string{id},
		Ports: []attachment.Port{{Protocol: "tcp", HostPort: 7070, Container: 70}}}
}

// bridges are the interfaces of this Root on the host.
func (l *lab) bridges(t testing.TB) []string {
	t.Helper()
	names, err := links(l.table.Prefix, l.root.ID)
	must(t, err)
	return names
}

// nothing fails unless the host has nothing of this Root but the given number
// of bridges.
func (l *lab) nothing(t *testing.T, when string, bridges int) {
	t.Helper()
	if got := l.bridges(t); len(got) != bridges {
		t.Errorf("%s: bridges %v, want %d", when, got, bridges)
	}
	owners, err := l.table.Owners()
	if err != nil || len(owners) > 0 {
		t.Errorf("%s: ports of %v, %v", when, owners, err)
	}
	all, err := netlink.LinkList()
	must(t, err)
	for _, link := range all {
		if strings.HasPrefix(link.Attrs().Name, "ampv") && strings.Contains(link.Attrs().Alias, l.root.ID) {
			t.Errorf("%s: cable %s", when, link.Attrs().Name)
		}
	}
	for _, dir := range []string{"leases", "attached", "cache/results"} {
		filepath.WalkDir(filepath.Join(l.root.State, "net", dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != "lock" && !strings.HasPrefix(d.Name(), "last_reserved_ip") {
				t.Errorf("%s: %s is left", when, path)
			}
			return nil
		})
	}
	if entries, _ := filepath.Glob(l.dir + "/root/networks/*.next"); len(entries) > 0 {
		t.Errorf("%s: %v", when, entries)
	}
}

// events lists the networks' events as "name action".
func (l *lab) events(t testing.TB) []string {
	t.Helper()
	var all []string
	for ev, err := range l.root.Log.Read(t.Context(), &journal.ReadOptions{}) {
		must(t, err)
		all = append(all, ev.Attributes["name"]+" "+ev.Action)
	}
	return all
}

// childDo runs one operation on the store of args[0], for kill matrices.
func childDo(args []string) int {
	s, err := open(args[0])
	if err == nil {
		err = do(context.Background(), s, args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func do(ctx context.Context, s *Store, what, ns string) error {
	l := &lab{Store: s, ns: ns}
	switch what {
	case "create":
		_, err := s.Create(ctx, &Spec{Name: "app", IPv6: true, Labels: map[string]string{"a": "b"}})
		return err
	case "remove":
		return s.Remove(ctx, "app")
	case "attach":
		_, err := s.Attach(ctx, l.want("app", "one"))
		return err
	case "detach", "let go":
		all, err := s.Attached("one")
		for _, a := range all {
			if what == "let go" {
				ns = ""
			}
			err = errors.Join(err, s.Detach(ctx, a, ns))
		}
		return err
	case "serve":
		_, err := s.Serve(ctx, "app", "api")
		return err
	case "gc":
		return s.GC(ctx)
	case "reload":
		return s.Reload(ctx)
	case "idle":
		return s.Idle(ctx)
	}
	return errors.New("what?")
}

// childCrowd makes networks and attaches to one that all share.
func childCrowd(args []string) int {
	s, err := open(args[0])
	for i := 0; i < 8 && err == nil; i++ {
		_, err = s.Create(context.Background(), &Spec{Name: fmt.Sprintf("net-%s-%d", args[1], i)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func prefixes(all []*Network) (out []netip.Prefix) {
	for _, n := range all {
		for _, s := range n.Subnets {
			out = append(out, s.Prefix)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}
