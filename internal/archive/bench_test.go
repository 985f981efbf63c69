//go:build linux

package archive

import (
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkApply unpacks the archives named in ARCHIVES (separated as a PATH)
// below ARCHIVE_DIR, for comparisons with other unpackers:
//
//	tar -C $(go env GOROOT) -cf go.tar src && gzip -k go.tar
//	ARCHIVES=$PWD/go.tar:$PWD/go.tar.gz go test -run '^$' -bench Apply ./internal/archive
func BenchmarkApply(b *testing.B) {
	for _, name := range filepath.SplitList(os.Getenv("ARCHIVES")) {
		b.Run(filepath.Base(name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dir, err := os.MkdirTemp(os.Getenv("ARCHIVE_DIR"), "bench")
				if err != nil {
					b.Fatal(err)
				}
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				r, _, err := Decompress(f)
				if err != nil {
					b.Fatal(err)
				}
				done, err := Apply(b.Context(), dir, r, &ApplyOptions{Isolated: true})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(done.Bytes)
				b.ReportMetric(float64(done.Entries), "entries")
				b.StopTimer()
				r.Close()
				f.Close()
				os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
}
