package reexec

import (
	"bytes"
	"reflect"
	"testing"
)

func TestEncodeDecode(t *testing.T) {
	prog := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)
	for _, reaper := range []*Reaper{nil, {Args: []string{"sh", "-c", "exit 3"}, Env: []string{"A=b"}}} {
		for _, groups := range [][]string{nil, {"/sys/fs/cgroup/cpu/a/tasks"}} {
			o, err := decode(Encode(&Orders{Groups: groups, Program: prog, Flags: 4, Reaper: reaper}))
			if err != nil || !bytes.Equal(o.Program, prog) || o.Flags != 4 || !reflect.DeepEqual(o.Reaper, reaper) || len(o.Groups) != len(groups) {
				t.Errorf("decode: %+v %v", o, err)
			}
		}
	}
	whole := Encode(&Orders{Groups: []string{"/a", "/b"}, Program: prog, Reaper: &Reaper{Args: []string{"a"}}})
	for n := range whole {
		if _, err := decode(whole[:n]); err == nil {
			t.Errorf("a filter cut to %d of %d bytes was accepted", n, len(whole))
		}
	}
	if _, err := decode(append(whole, 0)); err == nil {
		t.Error("a filter with more behind it was accepted")
	}
}
