//go:build linux

package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"

	"github.com/amphora-go/amphora/internal/archive"
)

// Two layers, each unpacked without sight of the other, then settled bottom to
// top.
func Example() {
	ctx := context.Background()
	base, _ := os.MkdirTemp("", "layer")
	upper, _ := os.MkdirTemp("", "layer")
	defer os.RemoveAll(base)
	defer os.RemoveAll(upper)

	unpack := func(dir string, layer []byte) *archive.Applied {
		r, _, err := archive.Decompress(bytes.NewReader(layer))
		if err != nil {
			panic(err)
		}
		defer r.Close()
		done, err := archive.Apply(ctx, dir, r, &archive.ApplyOptions{Isolated: true, MapID: me})
		if err != nil {
			panic(err)
		}
		return done
	}
	low := unpack(base, layer(tar.Header{Typeflag: tar.TypeDir, Name: "var/tmp/", Mode: 0o1777}))
	up := unpack(upper, layer(tar.Header{Typeflag: tar.TypeReg, Name: "var/tmp/f", Mode: 0o644}))

	if err := archive.Settle(ctx, base, nil, low); err != nil {
		panic(err)
	}
	if err := archive.Settle(ctx, upper, []string{base}, up); err != nil {
		panic(err)
	}
	st, _ := os.Stat(upper + "/var/tmp")
	fmt.Println(st.Mode())
	// Output: dtrwxrwxrwx
}

// me gives everything to the user who runs this.
func me(int, int) (int, int, error) { return os.Getuid(), os.Getgid(), nil }

func layer(h tar.Header) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	w.WriteHeader(&h)
	w.Close()
	z.Close()
	return b.Bytes()
}
