package seccomp

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func tiny(action specs.LinuxSeccompAction) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: action}}}
}

func readBack(t *testing.T, path string, p *specs.LinuxSeccomp) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	prog, flags, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	want, wantFlags, err := Compile(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(prog, want) || flags != wantFlags {
		t.Errorf("%s holds another program", path)
	}
}

func TestCacheRecompilesWhatIsDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seccomp") // not there yet
	p := tiny(specs.ActErrno)
	path, err := Cached(t.Context(), dir, p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, path, p)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Cached(t.Context(), dir, tiny(specs.ActKill), "amd64")
	if err != nil || other == path {
		t.Fatalf("another profile: %s, %v", other, err)
	}
	swapped, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[4] ^= 1
	for name, data := range map[string][]byte{
		"empty": nil, "torn": good[:len(good)/2], "torn at an instruction": good[:len(good)-8], "bit": flipped, "swapped": swapped,
		"long": append(bytes.Clone(good), 0), "program alone": good[:len(good)-trailerSize],
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "swapped" {
			if _, _, err := Decode(data); err == nil {
				t.Errorf("%s: decoded", name)
			}
		}
		again, err := Cached(t.Context(), dir, p, "amd64")
		if err != nil || again != path {
			t.Fatalf("%s: %s, %v", name, again, err)
		}
		readBack(t, path, p)
	}
}

func TestCacheHitDoesNotWrite(t *testing.T) {
	dir := t.TempDir()
	path, err := Cached(t.Context(), dir, tiny(specs.ActErrno), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	if _, err := Cached(t.Context(), dir, tiny(specs.ActErrno), "amd64"); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(path)
	if !os.SameFile(before, after) {
		t.Error("a hit replaced the file")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left in the directory: %v", entries)
	}
}

// TestCacheKey: what makes a difference to the kernel must make one here.
func TestCacheKey(t *testing.T) {
	none := tiny(specs.ActErrno)
	empty := tiny(specs.ActErrno)
	empty.Flags = []specs.LinuxSeccompFlag{}
	seen := map[[32]byte]bool{}
	for _, p := range []*specs.LinuxSeccomp{none, empty, tiny(specs.ActKill)} {
		for _, arch := range []string{"amd64", "arm64"} {
			key, err := cacheKey(p, arch)
			if err != nil || seen[key] {
				t.Errorf("%+v on %s: repeated key, %v", p, arch, err)
			}
			seen[key] = true
		}
	}
}

func TestCacheErrors(t *testing.T) {
	dir := t.TempDir()
	bad := tiny("SCMP_ACT_PRAY")
	if _, err := Cached(t.Context(), dir, bad, "amd64"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("bad profile: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if _, err := Cached(t.Context(), dir, nil, "amd64"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no profile: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Cached(t.Context(), filepath.Join(file, "x"), tiny(specs.ActErrno), "amd64"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory below a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Cached(ctx, dir, tiny(specs.ActErrno), "amd64"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCacheConcurrently(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			path, err := Cached(t.Context(), dir, tiny(specs.ActErrno), "amd64")
			if err != nil {
				t.Error(err)
				return
			}
			if data, err := os.ReadFile(path); err != nil {
				t.Error(err)
			} else if _, _, err := Decode(data); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkCachedHit(b *testing.B) {
	p := defaultFor(b)
	dir := b.TempDir()
	for b.Loop() {
		if _, err := Cached(b.Context(), dir, p, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	p := defaultFor(b)
	for b.Loop() {
		if _, err := cacheKey(p, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}
