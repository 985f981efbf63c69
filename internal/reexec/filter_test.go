package reexec

import (
	"bytes"
	"reflect"
	"testing"
)

func TestEncodeDecode(t *testing.T) {
	prog := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)
	for _, reaper := range []*Reaper{nil, {Args: []string{"sh", "-c", "exit 3"}, Env: []string{"A=b"}}} {
		p, flags, args, err := decode(Encode(prog, 4, reaper))
		if err != nil || !bytes.Equal(p, prog) || flags != 4 || !reflect.DeepEqual(args, reaper) {
			t.Errorf("decode: %v %d %v %v", p, flags, args, err)
		}
	}
	whole := Encode(prog, 0, nil)
	for n := range whole {
		if _, _, _, err := decode(whole[:n]); err == nil {
			t.Errorf("a filter cut to %d of %d bytes was accepted", n, len(whole))
		}
	}
}
