package seccomp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
)

// compilerVersion is part of every key. Raise it with each change of the
// compiler, of syscalls.txt or of the required calls.
const compilerVersion = 1

// A cached file is the program and a trailer: magic, flags, the key that the
// file's name shows, and the SHA-256 of all before. A file that is torn,
// damaged or under a wrong name is recompiled.
const (
	magic       = "amphbpf\x01"
	trailerSize = len(magic) + 4 + 2*sha256.Size
)

// Cached returns the path of a file in dir that holds the compiled profile,
// to be read by [Decode]. It compiles at the first use of a profile only; dir
// is created, and may be shared by any number of processes. arch is a GOARCH.
// Its errors are those of [Compile] and of the file system.
func Cached(ctx context.Context, dir string, p *specs.LinuxSeccomp, arch string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	key, err := cacheKey(p, arch)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, hex.EncodeToString(key[:])+".bpf")
	data, err := os.ReadFile(path)
	if err == nil {
		if _, _, have, err := decodeFile(data); err == nil && have == key {
			return path, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Opaque(err)
	}
	prog, flags, err := Compile(p, arch)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fault.Opaque(fmt.Errorf("seccomp cache: %w", err))
	}
	// Synced: records of containers name the file and cannot make it again.
	if err := atomicfile.Write(path, encodeFile(prog, flags, key), 0o600, true); err != nil {
		return "", fault.Opaque(fmt.Errorf("seccomp cache: %w", err))
	}
	return path, nil
}

// Decode gives the program and the flags for [Install] from the contents of a
// file of [Cached]. prog is a part of data.
func Decode(data []byte) (prog []byte, flags uint, err error) {
	prog, flags, _, err = decodeFile(data)
	return prog, flags, err
}

// cacheKey covers all that the program depends on. Whether flags are given at
// all matters and does not show in the JSON.
func cacheKey(p *specs.LinuxSeccomp, arch string) (key [sha256.Size]byte, err error) {
	if p == nil {
		return key, fault.Invalid("seccomp: no profile to compile")
	}
	data, err := json.Marshal(p)
	if err != nil {
		return key, fault.Invalid("seccomp profile: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %t\n", compilerVersion, arch, p.Flags == nil)
	h.Write(data)
	h.Sum(key[:0])
	return key, nil
}

func encodeFile(prog []byte, flags uint, key [sha256.Size]byte) []byte {
	out := make([]byte, 0, len(prog)+trailerSize)
	out = append(out, prog...)
	out = append(out, magic...)
	out = binary.LittleEndian.AppendUint32(out, uint32(flags))
	out = append(out, key[:]...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

func decodeFile(data []byte) (prog []byte, flags uint, key [sha256.Size]byte, err error) {
	n := len(data) - trailerSize
	if n <= 0 || n%8 != 0 || n/8 > maxInstructions {
		return nil, 0, key, fmt.Errorf("compiled seccomp profile: %d bytes is no possible size", len(data))
	}
	prog, rest := data[:n:n], data[n:]
	if !bytes.HasPrefix(rest, []byte(magic)) {
		return nil, 0, key, errors.New("compiled seccomp profile: unknown format")
	}
	signed := len(data) - sha256.Size
	if sum := sha256.Sum256(data[:signed]); !bytes.Equal(sum[:], data[signed:]) {
		return nil, 0, key, errors.New("compiled seccomp profile is damaged")
	}
	rest = rest[len(magic):]
	copy(key[:], rest[4:])
	return prog, uint(binary.LittleEndian.Uint32(rest)), key, nil
}
