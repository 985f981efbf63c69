package local

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// big is a context of 20,200 files with 200 MB, as the target names it.
func big(b *testing.B) string {
	dir := b.TempDir()
	r := rand.NewChaCha8([32]byte{})
	data := make([]byte, 9900)
	for d := range 202 {
		sub := filepath.Join(dir, fmt.Sprintf("some-package-%d/src", d))
		must(b, os.MkdirAll(sub, 0o755))
		for f := range 100 {
			r.Read(data)
			must(b, os.WriteFile(filepath.Join(sub, fmt.Sprintf("source-file-%d.go", f)), data, 0o644))
		}
	}
	time.Sleep(100 * time.Millisecond) // older than what counts as just changed
	return dir
}

// BenchmarkWalk is the bare walk that a scan is compared with.
func BenchmarkWalk(b *testing.B) {
	dir := big(b)
	for b.Loop() {
		n := 0
		must(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil {
				_, err = d.Info()
			}
			n++
			return err
		}))
		if n < 20200 {
			b.Fatal(n)
		}
	}
}

func benchmarkScan(b *testing.B, stat bool, f *Filter) {
	dir := big(b)
	d := &Dir{Path: dir}
	if stat {
		d.Stat = filepath.Join(b.TempDir(), "stat")
		_, err := d.Scan(context.Background(), f)
		must(b, err)
	}
	for b.Loop() {
		m, err := d.Scan(context.Background(), f)
		must(b, err)
		m.Digest()
	}
}

func BenchmarkScanFirst(b *testing.B)     { benchmarkScan(b, false, nil) }
func BenchmarkScanUnchanged(b *testing.B) { benchmarkScan(b, true, nil) }
func BenchmarkScanFiltered(b *testing.B) {
	benchmarkScan(b, true, &Filter{Exclude: []string{"**/.git", "**/*.tmp", "node_modules", "**/*_test.py", "docs/**", "!docs/README.md", "*.md", "build"}})
}

// BenchmarkScanManyPatterns has those that "docker init" writes.
func BenchmarkScanManyPatterns(b *testing.B) {
	benchmarkScan(b, true, &Filter{Exclude: []string{"**/.DS_Store", "**/__pycache__", "**/.venv", "**/.classpath", "**/.dockerignore", "**/.env", "**/.git",
		"**/.gitignore", "**/.project", "**/.settings", "**/.toolstarget", "**/.vs", "**/.vscode", "**/*.*proj.user", "**/*.dbmdl", "**/*.jfm", "**/bin",
		"**/charts", "**/docker-compose*", "**/compose.y*ml", "**/Dockerfile*", "**/node_modules", "**/npm-debug.log", "**/obj", "**/secrets.dev.yaml",
		"**/values.dev.yaml", "LICENSE", "README.md"}})
}

func BenchmarkLoad(b *testing.B) {
	d := &Dir{Path: big(b), Stat: filepath.Join(b.TempDir(), "stat")}
	_, err := d.Scan(context.Background(), nil)
	must(b, err)
	for b.Loop() {
		r := load(d.Stat)
		for dir := range r.blocks {
			r.dir(dir)
		}
	}
}

func BenchmarkUnchanged(b *testing.B) {
	dir := big(b)
	m, err := (&Dir{Path: dir}).Scan(context.Background(), nil)
	must(b, err)
	for b.Loop() {
		if ok, err := m.Unchanged(context.Background()); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
