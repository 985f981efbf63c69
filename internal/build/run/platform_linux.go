package run

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// binfmts is where the kernel lists the handlers of formats of programs.
const binfmts = "/proc/sys/fs/binfmt_misc"

// natively are architectures whose programs these processors execute without
// help, as a rule.
var natively = map[string]string{"amd64": "386", "arm64": "arm"}

// machine is what the beginning of an ELF file says: class (1: 32 bits, 2: 64),
// byte order, e_machine, as elf(5) has them.
type machine struct {
	class byte
	order binary.ByteOrder
	id    uint16
	qemu  string // what QEMU calls it
}

var machines = map[string]machine{
	"386":      {1, binary.LittleEndian, 3, "i386"},
	"amd64":    {2, binary.LittleEndian, 62, "x86_64"},
	"arm":      {1, binary.LittleEndian, 40, "arm"},
	"arm64":    {2, binary.LittleEndian, 183, "aarch64"},
	"loong64":  {2, binary.LittleEndian, 258, "loongarch64"},
	"mips64":   {2, binary.BigEndian, 8, "mips64"},
	"mips64le": {2, binary.LittleEndian, 8, "mips64el"},
	"ppc64le":  {2, binary.LittleEndian, 21, "ppc64le"},
	"riscv64":  {2, binary.LittleEndian, 243, "riscv64"},
	"s390x":    {2, binary.BigEndian, 22, "s390x"},
}

// header is the beginning of a program for the machine.
func (m machine) header() []byte {
	b := make([]byte, 128)
	copy(b, "\x7fELF")
	b[4], b[5], b[6] = m.class, 1, 1
	if m.order == binary.BigEndian {
		b[5] = 2
	}
	m.order.PutUint16(b[16:], 2) // e_type: an executable
	m.order.PutUint16(b[18:], m.id)
	m.order.PutUint32(b[20:], 1) // e_version
	return b
}

// emulated says what is missing to execute programs of another processor.
func emulated(p ocispec.Platform) error {
	if natively[runtime.GOARCH] == p.Architecture {
		return nil
	}
	return emulatedBy(binfmts, p)
}

func emulatedBy(dir string, p ocispec.Platform) error {
	name := "linux/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	m, ok := machines[p.Architecture]
	if !ok {
		return fault.Unsupported("commands for %s cannot be executed on this machine, which is linux/%s", name, runtime.GOARCH)
	}
	cure := "install QEMU's user emulation (Debian, Ubuntu: apt-get install qemu-user-static binfmt-support; anywhere: docker run --privileged --rm tonistiigi/binfmt --install " + p.Architecture + ")"
	handlers, err := os.ReadDir(dir)
	if err != nil {
		return fault.Unsupported("commands for %s need an emulator, and the kernel's binfmt_misc is not to be seen at %s: mount -t binfmt_misc binfmt_misc %s, then %s", name, dir, dir, cure)
	}
	why := ""
	for _, h := range handlers {
		text, err := os.ReadFile(filepath.Join(dir, h.Name()))
		if err != nil {
			continue
		}
		f := parseHandler(string(text))
		switch {
		case !f.matches(m.header()):
		case !f.enabled:
			why = "the handler " + h.Name() + " is disabled: echo 1 > " + filepath.Join(dir, h.Name())
		case !strings.Contains(f.flags, "F"):
			why = "the handler " + h.Name() + " lacks the flag F (fix binary), so that its emulator " + f.interpreter + " is not found inside a container: " + cure
		default:
			return nil
		}
	}
	if why == "" {
		why = "binfmt_misc has no handler for " + m.qemu + ": " + cure
	}
	return fault.Unsupported("commands for %s need an emulator on this machine, which is linux/%s: %s", name, runtime.GOARCH, why)
}

// handler is one file of binfmt_misc.
type handler struct {
	enabled            bool
	interpreter, flags string
	offset             int
	magic, mask        []byte
}

func parseHandler(text string) (h handler) {
	for i, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case i == 0:
			h.enabled = line == "enabled"
		case key == "interpreter":
			h.interpreter = value
		case key == "flags:":
			h.flags = value
		case key == "offset":
			h.offset, _ = strconv.Atoi(value)
		case key == "magic":
			h.magic, _ = hex.DecodeString(value)
		case key == "mask":
			h.mask, _ = hex.DecodeString(value)
		}
	}
	return h
}

func (h *handler) matches(file []byte) bool {
	if len(h.magic) == 0 || h.offset < 0 || h.offset+len(h.magic) > len(file) {
		return false
	}
	for i, want := range h.magic {
		mask := byte(0xff)
		if i < len(h.mask) {
			mask = h.mask[i]
		}
		if (file[h.offset+i]^want)&mask != 0 {
			return false
		}
	}
	return true
}
