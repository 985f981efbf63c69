//go:build unix

package ipam

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/testenv"
)

func childOne(args []string) int {
	s := Open(args[0])
	if args[1] == "del" {
		if err := s.Release(context.Background(), "net", key("a")); err != nil {
			return 1
		}
		return 0
	}
	if _, err := s.Allocate(context.Background(), "net", dual, Want{Key: key("a")}); err != nil {
		return 1
	}
	return 0
}

// A process killed at any point leaves nothing that GC does not find, and
// nothing that keeps a release from working.
func TestKilled(t *testing.T) {
	for _, c := range []struct{ op, point string }{
		{"add", "ipam.add.indexed"}, {"add", "ipam.add.leased"}, {"del", "ipam.del.released"},
	} {
		for at := range 2 {
			for _, mend := range []string{"gc", "release"} {
				dir := testenv.Dir(t)
				s := Open(dir)
				if c.op == "del" {
					give(t, s, dual, Want{Key: key("a")})
				}
				r := testenv.RunChild(t, "one", step.Plan{Name: c.point, At: at}, dir, c.op)
				if !r.Killed && !(r.Code == 0 && c.point == "ipam.add.indexed" && at == 1) {
					t.Fatalf("%v %d: %+v", c, at, r)
				}
				var err error
				if mend == "gc" {
					err = s.GC(t.Context(), "net", nil)
				} else {
					err = s.Release(t.Context(), "net", key("a"))
				}
				if err != nil {
					t.Fatal(err)
				}
				if all, err := s.Leases("net"); err != nil || len(all) > 0 {
					t.Errorf("%v %d, %s: left %v, %v", c, at, mend, all, err)
				}
				if got := give(t, s, dual, Want{Key: key("a")}); len(got) != 2 {
					t.Errorf("%v %d, %s: %v", c, at, mend, got)
				}
			}
		}
	}
}

func childCrowd(args []string) int {
	s := Open(args[0])
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Allocate(context.Background(), "net", dual, Want{Key: key(fmt.Sprintf("%s-%d", args[1], i))})
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func TestCrowd(t *testing.T) {
	dir := testenv.Dir(t)
	var wg sync.WaitGroup
	for p := range 4 {
		cmd := testenv.ChildCommand(t, "crowd", step.Plan{}, dir, strconv.Itoa(p))
		cmd.Stderr = os.Stderr
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := Open(dir).Leases("net")
	if err != nil || len(all) != 160 { // a file each: a duplicate would be missing
		t.Fatalf("%d leases, %v", len(all), err)
	}
}
