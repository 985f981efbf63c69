package logs

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// output is about 256 KiB, as one read of the shim's pump.
func output(line string) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 256<<10; i++ {
		fmt.Fprintf(&b, "%06d %s\n", i, line)
	}
	return b.Bytes()[:256<<10]
}

var workloads = map[string][]byte{
	"plain": output(strings.Repeat("The quick brown fox jumps. ", 4)),
	"json":  output(`{"level":"info","msg":"request served","path":"/api/v1/things","ms":12,"status":200}`),
	"utf8":  output(strings.Repeat("Съешь же ещё этих мягких ", 2)),
	"short": output(""),
}

func BenchmarkWrite(b *testing.B) {
	for name, chunk := range workloads {
		b.Run(name, func(b *testing.B) {
			w, err := Open(filepath.Join(b.TempDir(), "log"), &Options{MaxSize: 64 << 20, MaxFile: 2})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if err := w.Write(Stdout, chunk, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEscape(b *testing.B) {
	for name, chunk := range workloads {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				buf = appendEscaped(buf[:0], chunk)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for name, chunk := range workloads {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "log")
			w, err := Open(path, nil)
			if err != nil {
				b.Fatal(err)
			}
			for range 40 {
				if err := w.Write(Stdout, chunk, noon); err != nil {
					b.Fatal(err)
				}
			}
			w.Close()
			b.SetBytes(int64(40 * len(chunk)))
			for b.Loop() {
				n := 0
				for e, err := range Read(b.Context(), path, nil) {
					if err != nil {
						b.Fatal(err)
					}
					n += len(e.Line)
				}
				if n != 40*len(chunk) {
					b.Fatal(n)
				}
			}
		})
	}
}

func BenchmarkTail100(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w, err := Open(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
		w.Write(Stdout, workloads["plain"], noon)
	}
	w.Close()
	for b.Loop() {
		n := 0
		for range Read(b.Context(), path, &ReadOptions{Tail: 100}) {
			n++
		}
		if n != 100 {
			b.Fatal(n)
		}
	}
}
