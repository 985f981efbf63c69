package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// userHz is the unit of cpuacct.stat: what the kernel shows to programs is 100
// on every architecture that Go has.
const userHz = 100

// Stat reads the counters of a group. What has no controller here stays 0. A
// group that is gone is fs.ErrNotExist.
func Stat(group string) (*Stats, error) {
	ms, err := mounts()
	if err != nil {
		return nil, err
	}
	s := &Stats{MemoryLimit: math.MaxUint64}
	if ms[0].controllers == nil {
		return s, s.unified(filepath.Join(ms[0].dir, group))
	}
	dir := func(controller string) reader {
		for _, m := range ms {
			if slices.Contains(m.controllers, controller) {
				return reader(filepath.Join(m.dir, group))
			}
		}
		return ""
	}
	return s, s.legacy(dir)
}

// reader is the directory of a group; "" reads nothing.
type reader string

func (r reader) text(name string) string {
	if r == "" {
		return ""
	}
	b, _ := os.ReadFile(filepath.Join(string(r), name))
	return strings.TrimSpace(string(b))
}

// number is 0 for what is not there, and for "max".
func (r reader) number(name string) uint64 {
	n, _ := strconv.ParseUint(r.text(name), 10, 64)
	return n
}

// table reads lines of a key and a number.
func (r reader) table(name string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(r.text(name)) {
		if key, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out[key], _ = strconv.ParseUint(v, 10, 64)
		}
	}
	return out
}

func (r reader) there() error {
	_, err := os.Stat(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrNotExist
	}
	return err
}

func (s *Stats) unified(dir string) error {
	r := reader(dir)
	if err := r.there(); err != nil {
		return err
	}
	cpu := r.table("cpu.stat")
	usec := func(key string) time.Duration { return time.Duration(cpu[key]) * time.Microsecond }
	s.CPU, s.User, s.System, s.ThrottledTime = usec("usage_usec"), usec("user_usec"), usec("system_usec"), usec("throttled_usec")
	s.Periods, s.Throttled = cpu["nr_periods"], cpu["nr_throttled"]
	s.Memory, s.MemoryMax, s.InactiveFile = r.number("memory.current"), r.number("memory.peak"), r.table("memory.stat")["inactive_file"]
	if n := r.number("memory.max"); n > 0 {
		s.MemoryLimit = n
	}
	s.Pids, s.PidsLimit = r.number("pids.current"), r.number("pids.max")
	for line := range strings.Lines(r.text("io.stat")) {
		for f := range strings.FieldsSeq(line) {
			key, v, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(v, 10, 64)
			if to := map[string]*uint64{"rbytes": &s.ReadBytes, "wbytes": &s.WriteBytes, "rios": &s.ReadOps, "wios": &s.WriteOps}[key]; to != nil {
				*to += n
			}
		}
	}
	return nil
}

func (s *Stats) legacy(dir func(string) reader) error {
	cpu, acct, memory, pids, block := dir("cpu"), dir("cpuacct"), dir("memory"), dir("pids"), dir("blkio")
	for _, r := range []reader{acct, memory, pids} {
		if r == "" {
			continue
		}
		if err := r.there(); err != nil {
			return err
		}
	}
	s.CPU = time.Duration(acct.number("cpuacct.usage"))
	ticks := acct.table("cpuacct.stat")
	s.User, s.System = time.Duration(ticks["user"])*time.Second/userHz, time.Duration(ticks["system"])*time.Second/userHz
	limit := cpu.table("cpu.stat")
	s.Periods, s.Throttled, s.ThrottledTime = limit["nr_periods"], limit["nr_throttled"], time.Duration(limit["throttled_time"])
	s.Memory, s.MemoryMax = memory.number("memory.usage_in_bytes"), memory.number("memory.max_usage_in_bytes")
	s.InactiveFile = memory.table("memory.stat")["total_inactive_file"]
	if n := memory.number("memory.limit_in_bytes"); n > 0 {
		s.MemoryLimit = n
	}
	s.Pids, s.PidsLimit = pids.number("pids.current"), pids.number("pids.max")
	s.ReadBytes, s.WriteBytes = block.block("io_service_bytes")
	s.ReadOps, s.WriteOps = block.block("io_serviced")
	return nil
}

// block sums a counter over all devices. Which file counts depends on the
// scheduler of the disks.
func (r reader) block(name string) (read, write uint64) {
	for _, file := range []string{"blkio.bfq." + name + "_recursive", "blkio.throttle." + name + "_recursive", "blkio.throttle." + name} {
		for line := range strings.Lines(r.text(file)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue
			}
			n, _ := strconv.ParseUint(f[2], 10, 64)
			switch f[1] {
			case "Read":
				read += n
			case "Write":
				write += n
			}
		}
		if read+write > 0 {
			break
		}
	}
	return read, write
}
