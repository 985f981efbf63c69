package reexec

import (
	"encoding/binary"
	"encoding/json"
	"errors"
)

// Reaper is the command of an init that stays as process 1 beside it.
type Reaper struct {
	Args, Env []string
}

// Encode makes what a process finds on FilterFD: the flags of seccomp(2), the
// length of the program, the program; then, for an init that stays as reaper,
// the command as JSON. No program means unconfined.
func Encode(prog []byte, flags uint, reaper *Reaper) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(flags))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(prog)))
	out = append(out, prog...)
	if reaper != nil {
		command, _ := json.Marshal(reaper) // strings always encode
		out = append(out, command...)
	}
	return out
}

// decode is strict: whatever is not exactly what Encode made is an error.
func decode(data []byte) (prog []byte, flags uint32, reaper *Reaper, err error) {
	if len(data) < 8 {
		return nil, 0, nil, errors.New("descriptor 3 holds no seccomp filter")
	}
	n := uint64(binary.LittleEndian.Uint32(data[4:]))
	if n%8 != 0 || 8+n > uint64(len(data)) {
		return nil, 0, nil, errors.New("the seccomp filter was cut short")
	}
	if rest := data[8+n:]; len(rest) > 0 {
		if err := json.Unmarshal(rest, &reaper); err != nil {
			return nil, 0, nil, err
		}
	}
	return data[8 : 8+n], binary.LittleEndian.Uint32(data), reaper, nil
}
