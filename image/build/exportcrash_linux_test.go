package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/internal/testenv"
)

// TestKilledExports: whenever a build is killed, each name stands for a whole
// image or for nothing, and what is left is collected.
func TestKilledExports(t *testing.T) {
	testenv.Root(t)
	plain := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(plain, testenv.Tar(t, []testenv.File{{Name: "f", Data: []byte("content"), ModTime: time.Now()}}), 0o644); err != nil {
		t.Fatal(err)
	}
	points := testenv.Points(func() {
		if code := childExport([]string{testenv.Dir(t), plain}); code != 0 {
			t.Fatal("exit", code)
		}
	})
	for i, point := range points {
		at := 0
		for _, before := range points[:i] {
			if before == point {
				at++
			}
		}
		t.Run(fmt.Sprintf("%s-%d", point, at), func(t *testing.T) {
			dir := testenv.Dir(t)
			if r := testenv.RunChild(t, "export", step.Plan{Name: point, At: at}, dir, plain); !r.Killed {
				if point == "layers.synced" && r.Code == 0 {
					t.Skip("the background was faster")
				}
				t.Fatalf("not killed: %+v", r)
			}
			y, err := openYard(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer y.lease.Close()
			// What is in the journal counts, and is settled by who comes next.
			if err := y.store.UpdateNames(t.Context(), func(*store.NamesTx) error { return nil }); err != nil {
				t.Fatal(err)
			}
			all, err := y.images.List(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range all {
				if info.Problem != "" || !info.Unpacked {
					t.Errorf("%+v", info)
				}
				for _, ref := range info.Refs {
					var b bytes.Buffer
					if err := y.images.Save(t.Context(), &b, []string{ref.String()}, nil); err != nil {
						t.Error(err)
					}
					if _, err := y.images.Remove(t.Context(), ref.String(), nil); err != nil {
						t.Error(err)
					}
				}
			}
			y.lease.Close()
			if _, err := y.store.Collect(t.Context(), &store.CollectOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, sub := range []string{"layers/[0-9a-f]*", "blobs/sha256/*", "tmp/*", "trash/*", "leases/*"} {
				if left, _ := filepath.Glob(filepath.Join(y.store.Root(), sub)); len(left) > 0 {
					t.Errorf("left %v", left)
				}
			}
			if r := testenv.RunChild(t, "export", step.Plan{}, dir, plain); r.Code != 0 {
				t.Errorf("afterwards: %s", strings.TrimSpace(r.Stderr))
			}
		})
	}
}
