//go:build linux

package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The contract of isolated layers: unpacked side by side and settled, they
// show through an overlay what they show when each is unpacked onto the
// mounted overlay of those below. So does Apply with Lowers.

// sequential is the reference.
func (s *stack) sequential(i int, data []byte) (err error) {
	upper := s.mkdir("seq", i)
	// A new upper directory shows its own root; carry that of the layer below.
	if i > 0 {
		copyRoot(s.t, s.layer("seq", i-1), upper)
	}
	s.mounted(s.lowers("seq", i), upper, func(mnt string) {
		_, err = Apply(s.t.Context(), mnt, bytes.NewReader(data), &ApplyOptions{Whiteouts: WhiteoutPlain})
	})
	return err
}

func copyRoot(t *testing.T, from, to string) {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&permBits)); err != nil {
		t.Fatal(err)
	}
	x, _ := readXattrs(from)
	for k, v := range x {
		if err := unix.Setxattr(to, k, []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *stack) over(i int, kind string, data []byte) error {
	low := s.lowers(kind, i)
	if low == nil {
		low = []string{}
	}
	_, err := Apply(s.t.Context(), s.mkdir(kind, i), bytes.NewReader(data), &ApplyOptions{Lowers: low})
	return err
}

// isolated unpacks each layer on its own, then settles them.
func (s *stack) isolated(layers [][]byte) (reapplied int, failed int, err error) {
	done, errs := make([]*Applied, len(layers)), make([]error, len(layers))
	for i, data := range layers { // in turn: only this thread sees the mounts
		done[i], errs[i] = Apply(s.t.Context(), s.mkdir("iso", i), bytes.NewReader(data), &ApplyOptions{Isolated: true})
	}
	for i := range layers {
		if errs[i] != nil {
			return reapplied, i, errs[i]
		}
		data, err := json.Marshal(done[i])
		if err != nil {
			return reapplied, i, err
		}
		var again Applied
		if err := json.Unmarshal(data, &again); err != nil {
			return reapplied, i, err
		}
		err = Settle(s.t.Context(), s.layer("iso", i), s.lowers("iso", i), &again)
		if errors.Is(err, ErrReapply) {
			reapplied++
			err = s.over(i, "iso", layers[i])
		}
		if err != nil {
			return reapplied, i, err
		}
	}
	return reapplied, -1, nil
}

// check runs one case and returns how many layers had to be applied again.
func (s *stack) check(layers [][]*entry) int {
	t := s.t
	t.Helper()
	tars := make([][]byte, len(layers))
	for i, l := range layers {
		tars[i] = archiveOf(t, l...)
	}
	bad := -1
	var refErr error
	for i := range tars {
		if refErr = s.sequential(i, tars[i]); refErr != nil {
			bad = i
			break
		}
	}
	var overErr error
	overBad := -1
	for i := range tars {
		if overErr = s.over(i, "over", tars[i]); overErr != nil {
			overBad = i
			break
		}
	}
	again, isoBad, isoErr := s.isolated(tars)
	// An error that needs no lower layer may show earlier than one that does.
	if bad != overBad || (bad < 0) != (isoBad < 0) {
		t.Fatalf("one at a time fails at %d (%v), over lowers at %d (%v), isolated at %d (%v)\n%s",
			bad, refErr, overBad, overErr, isoBad, isoErr, show(layers))
	}
	if bad >= 0 {
		for _, err := range []error{refErr, overErr, isoErr} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Fatalf("unexpected failure: %v\n%s", err, show(layers))
			}
		}
		return again
	}
	want := s.view("seq", len(tars))
	for _, kind := range []string{"over", "iso"} {
		if d := diff(want, s.view(kind, len(tars))); d != "" {
			t.Fatalf("%s differs from layers unpacked one at a time:\n%s\n%s", kind, d, show(layers))
		}
	}
	return again
}

func show(layers [][]*entry) string {
	var b strings.Builder
	for i, l := range layers {
		for _, e := range l {
			fmt.Fprintf(&b, "  layer %d: %v\n", i, e)
		}
	}
	return b.String()
}

// generate makes layers over few names, so that they meet.
func generate(r *rand.Rand) [][]*entry {
	parts := []string{"a", "b", "lib", "usr", "x"}
	targets := []string{"usr", "/usr", "usr/lib", "/usr/lib", "../usr", "a", "../a", "b", "a/../b", "lib", "../../x", "a/b", "."}
	name := func() string {
		p := parts[r.IntN(len(parts))]
		for r.IntN(5) < 3 && strings.Count(p, "/") < 3 {
			p += "/" + parts[r.IntN(len(parts))]
		}
		return p
	}
	serial := 0
	one := func() *entry {
		serial++
		switch r.IntN(14) {
		case 0, 1, 2, 3:
			return file(name(), fmt.Sprint("content ", serial))
		case 4, 5, 6:
			return dir(name(), []int64{0o700, 0o1777, 0o2750, 0o555}[r.IntN(4)]).owner(r.IntN(3), r.IntN(3)).xattr("user.k", fmt.Sprint(serial))
		case 7, 8:
			return symlink(name(), targets[r.IntN(len(targets))])
		case 9, 10:
			return hardlink(name(), name())
		case 11:
			d, f := filepath.Split(name())
			return file(d+".wh."+f, "")
		case 12:
			return file(name()+"/.wh..wh..opq", "")
		}
		if r.IntN(8) == 0 {
			return file(".wh..wh..opq", "")
		}
		if r.IntN(4) == 0 {
			return dir(".", 0o711)
		}
		return device(name(), tar.TypeChar, 1, int64(serial))
	}
	layers := make([][]*entry, 2+r.IntN(2))
	for i := range layers {
		for range 1 + r.IntN(7) {
			layers[i] = append(layers[i], one())
		}
	}
	return layers
}

func TestIsolatedEqualsSequential(t *testing.T) {
	inMountNamespace(t, func() {
		cases := 300
		if testing.Short() {
			cases = 50
		}
		seed := uint64(7)
		fmt.Sscan(os.Getenv("CONTRACT_CASES"), &cases) // for long runs
		fmt.Sscan(os.Getenv("CONTRACT_SEED"), &seed)
		s := &stack{t: t, base: t.TempDir()}
		// In memory: it goes with the mount namespace.
		if err := unix.Mount("tmpfs", s.base, "tmpfs", 0, "mode=755"); err != nil {
			t.Logf("on disk, since a tmpfs cannot be mounted: %v", err)
		}
		again := 0
		for i := range cases {
			again += s.check(generate(rand.New(rand.NewPCG(uint64(i), seed))))
		}
		t.Logf("%d cases, %d layers applied again", cases, again)
	})
}
