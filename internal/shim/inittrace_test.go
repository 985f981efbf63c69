package shim

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Each supervisor pays the inits of all packages that it imports, each process
// of a container those of internal/reexec. This bounds how many there are and
// what they allocate, by the helper program, which imports nothing else. A new
// dependency that breaks it must be worth its price for every container.
func TestInitCost(t *testing.T) {
	const (
		// 40 of them, of net/http and OpenTelemetry, come with version 1.3.1 of
		// CNI, which BuildKit asks for: 0.15 ms for each process.
		maxPackages = 150
		maxBytes    = 128 << 10
	)
	helper := filepath.Join(t.TempDir(), "helper")
	build := exec.Command("go", "build", "-o", helper, "github.com/amphora-go/amphora/cmd/amphora-helper")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	cmd := exec.Command(helper)
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	cmd.Run() // ends with 2: it is not run by hand
	packages, total := 0, 0
	for line := range strings.Lines(trace.String()) {
		// init os @1.1 ms, 0.017 ms clock, 448 bytes, 9 allocs
		f := strings.Fields(line)
		if len(f) < 11 || f[0] != "init" {
			continue
		}
		packages++
		n, err := strconv.Atoi(f[7])
		if err != nil {
			t.Fatalf("unexpected trace %q", line)
		}
		total += n
	}
	t.Logf("%d packages allocate %d bytes", packages, total)
	if packages == 0 {
		t.Fatalf("no trace:\n%s", trace.String())
	}
	if packages > maxPackages || total > maxBytes {
		t.Errorf("%d packages allocate %d bytes at init; the bounds are %d and %d:\n%s", packages, total, maxPackages, maxBytes, trace.String())
	}
}
