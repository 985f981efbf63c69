package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Traffic is what an interface counted.
type Traffic struct {
	Interface                               string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// ReadTraffic reads the counters of the interfaces that a process sees, but
// for lo.
func ReadTraffic(pid int) ([]Traffic, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil, err
	}
	var out []Traffic
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := make([]uint64, len(f))
		for i, v := range f {
			n[i], _ = strconv.ParseUint(v, 10, 64)
		}
		out = append(out, Traffic{name, n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11]})
	}
	return out, nil
}

// TotalMemory is what the machine has, in bytes; 0 if it does not tell.
func TotalMemory() uint64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
