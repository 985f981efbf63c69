//go:build ignore

// This program writes syscalls.txt. Run it with "go generate" after an update
// of the module it takes the numbers from.
package main

import (
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf/arch"
)

// newer lists system calls that Linux got after the version (6.15) of the
// tables above; since 5.x a new one has the same number on every ABI.
var newer = map[string]int{
	"file_getattr":     468, // 6.17
	"file_setattr":     469, // 6.17
	"listns":           470, // 6.19
	"rseq_slice_yield": 471, // 7.0
}

// only64 are the numbers that Linux's syscall_64.tbl marks "64": x32 has no
// such call, though the tables above list them.
var only64 = []int{134, 156, 174, 177, 178, 180, 205, 211, 214, 215, 236, 335, 453}

func main() {
	var columns []map[string]int
	for _, a := range []*arch.Info{arch.X86_64, arch.X32, arch.I386, arch.AARCH64, arch.ARM} {
		columns = append(columns, invert(a.SyscallNumbers))
	}
	x64, x32, arm64, arm := columns[0], columns[1], columns[3], columns[4]
	x64["uprobe"] = 336 // 6.18
	maps.DeleteFunc(x32, func(_ string, nr int) bool { return slices.Contains(only64, nr) })
	// The 64-bit generic table calls 79 newfstatat, and has none of the
	// *_time64 calls of 32-bit machines (403 to 423).
	delete(arm64, "fstatat")
	arm64["newfstatat"] = 79
	maps.DeleteFunc(arm64, func(_ string, nr int) bool { return nr >= 403 && nr <= 423 })
	arm["sync_file_range2"] = arm["arm_sync_file_range"] // two names of one call

	names := map[string]bool{}
	for _, c := range columns {
		for name := range c {
			names[name] = true
		}
	}
	var out strings.Builder
	out.WriteString("# Written by gen.go. name x86_64 x32 (without bit 30) i386 aarch64 arm\n")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out.WriteString(name)
		for _, c := range columns {
			if nr, ok := c[name]; ok {
				fmt.Fprintf(&out, " %d", nr)
			} else {
				out.WriteString(" -")
			}
		}
		out.WriteByte('\n')
	}
	if err := os.WriteFile("syscalls.txt", []byte(out.String()), 0o644); err != nil {
		log.Fatal(err)
	}
}

// invert is not the tables' own: x32 has some names twice, and means the
// greater number (512 and up; the other one is that of x86_64).
func invert(numbers map[int]string) map[string]int {
	c := maps.Clone(newer)
	for _, nr := range slices.Sorted(maps.Keys(numbers)) {
		c[numbers[nr]] = nr
	}
	return c
}
