package cgroup2

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wanted are the modules that containers need and that nothing loads by itself
// in a guest without modprobe.
var wanted = []string{"overlay", "bridge", "veth", "nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_fib_inet", "nft_chain_nat", "nf_conntrack_netlink", "sch_tbf", "sctp"}

// modules are the entries of the wanted modules and of those that they need,
// and the lines of a script that load them in order.
func (l linux) modules(t *testing.T) (entries []entry, script string) {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(l.dir, "lib/modules", l.version, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	var load func(name string)
	load = func(name string) {
		path := files[strings.ReplaceAll(name, "-", "_")]
		if path == "" || slices.Contains(order, path) {
			return // built in, or there
		}
		for _, need := range needs(t, path) {
			load(need)
		}
		order = append(order, path)
	}
	for _, name := range wanted {
		load(name)
	}
	for _, path := range order {
		name := "lib/" + filepath.Base(path)
		entries = append(entries, entry{name: name, mode: 0o644, file: path})
		script += "insmod /" + name + "\n"
	}
	return entries, script
}

// needs reads what a module depends on: "depends=a,b" among the strings of its
// section .modinfo.
func needs(t *testing.T, path string) []string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Section(".modinfo").Data()
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := bytes.CutPrefix(line, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ",")
		}
	}
	return nil
}
