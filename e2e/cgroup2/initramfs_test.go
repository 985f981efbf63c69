package cgroup2

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"testing"
)

// entry is a file of an initramfs: data, or a copy of file.
type entry struct {
	name string
	mode uint32
	data []byte
	file string
}

// writeInitramfs writes a cpio archive in the "newc" format that the kernel
// reads (Documentation/driver-api/early-userspace/buffer-format.rst), with the
// directories that the entries need and /dev/console.
func writeInitramfs(t *testing.T, image string, entries []entry) {
	t.Helper()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	w := &cpio{w: bufio.NewWriter(f), made: map[string]bool{".": true}}
	w.parents("dev/console")
	w.write("dev/console", 0o020600, nil, 5, 1)
	for _, e := range entries {
		if e.file != "" {
			if e.data, err = os.ReadFile(e.file); err != nil {
				t.Fatal(err)
			}
		}
		w.parents(e.name)
		w.write(e.name, 0o100000|e.mode, e.data, 0, 0)
	}
	w.write("TRAILER!!!", 0, nil, 0, 0)
	if err := w.w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

type cpio struct {
	w    *bufio.Writer
	made map[string]bool
	ino  int
}

func (c *cpio) parents(name string) {
	dir := path.Dir(name)
	if c.made[dir] {
		return
	}
	c.made[dir] = true
	c.parents(dir)
	c.write(dir, 0o040755, nil, 0, 0)
}

// write ignores errors: Flush returns the first.
func (c *cpio) write(name string, mode uint32, data []byte, major, minor int) {
	c.ino++
	fmt.Fprintf(c.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	io.WriteString(c.w, name+"\x00")
	c.pad(110 + len(name) + 1)
	c.w.Write(data)
	c.pad(len(data))
}

func (c *cpio) pad(n int) {
	for ; n%4 != 0; n++ {
		c.w.WriteByte(0)
	}
}
