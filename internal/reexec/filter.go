package reexec

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
)

// Orders are what a process finds on FilterFD.
type Orders struct {
	// Groups are files that it writes "0" to before anything else: the tasks
	// files of its control groups on cgroup v1.
	Groups []string

	Program []byte  // compiled filter; none means unconfined
	Flags   uint    // of seccomp(2)
	Reaper  *Reaper // the command of an init that stays as process 1
}

// Reaper is the command of an init that stays as process 1 beside it.
type Reaper struct {
	Args, Env []string
}

// magic and headerSize stand in join_linux.c as well.
const (
	magic      = "AMPHORA\x02"
	headerSize = 24
)

// Encode makes the content of FilterFD: the magic, then in host byte order the
// flags of seccomp(2) and the lengths of three parts, which follow: the groups,
// each with a NUL at its end, the program, the reaper's command as JSON.
func Encode(o *Orders) []byte {
	var groups, command []byte
	for _, g := range o.Groups {
		groups = append(append(groups, g...), 0)
	}
	if o.Reaper != nil {
		command, _ = json.Marshal(o.Reaper) // strings always encode
	}
	out := []byte(magic)
	for _, n := range []int{int(o.Flags), len(groups), len(o.Program), len(command)} {
		out = binary.NativeEndian.AppendUint32(out, uint32(n))
	}
	return slices.Concat(out, groups, o.Program, command)
}

// decode is strict: whatever is not exactly what Encode made is an error.
// Groups says only whether there are any: they are for join_linux.c.
func decode(data []byte) (*Orders, error) {
	if len(data) < headerSize || string(data[:len(magic)]) != magic {
		return nil, errors.New("descriptor 3 holds no seccomp filter")
	}
	number := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(data[len(magic)+4*i:])) }
	groups, prog, command := number(1), number(2), number(3)
	if prog%8 != 0 || headerSize+groups+prog+command != uint64(len(data)) {
		return nil, errors.New("the seccomp filter was cut short")
	}
	o := &Orders{Flags: uint(number(0))}
	rest := data[headerSize:]
	if groups > 0 {
		o.Groups = []string{string(rest[:groups])}
	}
	o.Program, rest = rest[groups:groups+prog], rest[groups+prog:]
	if command > 0 {
		if err := json.Unmarshal(rest, &o.Reaper); err != nil {
			return nil, err
		}
	}
	return o, nil
}
