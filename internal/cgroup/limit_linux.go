package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// setting is a file of a group and what shall be in it. Several names: the
// first that is there.
type setting struct {
	files []string
	value string
	what  string
}

// Change takes a running group from one set of limits to another: memory, swap,
// processors, pids and block I/O. Only what differs is written. If the kernel
// refuses something, what was written is taken back.
func Change(group string, was, now *specs.LinuxResources) error {
	if now.Memory != nil && now.Memory.Limit != nil && Unified() {
		// Version 2 would kill where version 1 refuses.
		if st, err := Stat(group); err == nil && uint64(*now.Memory.Limit) < st.Memory-min(st.Memory, st.InactiveFile) {
			return fault.Kind(fault.ErrInUse, "the memory limit of %d bytes is below the %d bytes in use", *now.Memory.Limit, st.Memory)
		}
	}
	before, after := settings(was), settings(now)
	var undo []func()
	for _, s := range ordered(before, after) {
		back, err := s.write(group)
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
			return err
		}
		undo = append(undo, back)
	}
	return nil
}

// ordered are the settings that differ. The limit of memory and swap of version
// 1 can never be below that of memory: which is first depends on the way.
func ordered(before, after []setting) []setting {
	old := map[string]string{}
	for _, s := range before {
		old[s.files[0]] = s.value
	}
	out := slices.DeleteFunc(slices.Clone(after), func(s setting) bool { return s.value == old[s.files[0]] || s.value == "" })
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return math.MaxInt64
		}
		return n
	}
	if len(out) > 1 && out[0].files[0] == limitV1 && out[1].files[0] == swapV1 && number(out[1].value) > number(old[swapV1]) {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

const (
	limitV1 = "memory.limit_in_bytes"
	swapV1  = "memory.memsw.limit_in_bytes"
)

// settings are what limits mean in files. What has no limit has the kernel's
// default, and "" where there is none.
func settings(r *specs.LinuxResources) []setting {
	m, cpu, io := r.Memory, r.CPU, r.BlockIO
	if m == nil {
		m = &specs.LinuxMemory{}
	}
	if cpu == nil {
		cpu = &specs.LinuxCPU{}
	}
	if io == nil {
		io = &specs.LinuxBlockIO{}
	}
	pids := "max"
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0 {
		pids = strconv.FormatInt(*r.Pids.Limit, 10)
	}
	common := []setting{{[]string{"cpuset.cpus"}, cpu.Cpus, "the cpu set"}, {[]string{"cpuset.mems"}, cpu.Mems, "the set of memory nodes"},
		{[]string{"pids.max"}, pids, "the limit of processes"}}
	if Unified() {
		return append(unifiedSettings(m, cpu, io), common...)
	}
	return append(legacySettings(m, cpu, io), common...)
}

func bytes(n *int64, none string) string {
	if n == nil || *n <= 0 {
		return none
	}
	return strconv.FormatInt(*n, 10)
}

func legacySettings(m *specs.LinuxMemory, cpu *specs.LinuxCPU, io *specs.LinuxBlockIO) []setting {
	quota, shares, weight := "-1", "1024", ""
	if cpu.Quota != nil && *cpu.Quota > 0 {
		quota = strconv.FormatInt(*cpu.Quota, 10)
	}
	if cpu.Shares != nil {
		shares = strconv.FormatUint(*cpu.Shares, 10)
	}
	if io.Weight != nil {
		weight = strconv.Itoa(int(*io.Weight))
	}
	return []setting{{[]string{limitV1}, bytes(m.Limit, "-1"), "the memory limit"}, {[]string{swapV1}, bytes(m.Swap, "-1"), "the limit of memory and swap"},
		{[]string{"memory.soft_limit_in_bytes"}, bytes(m.Reservation, "-1"), "the memory reservation"},
		{[]string{"cpu.cfs_quota_us"}, quota, "the limit of cpus"}, {[]string{"cpu.shares"}, shares, "the cpu shares"},
		{[]string{"blkio.weight", "blkio.bfq.weight"}, weight, "the block I/O weight"}}
}

func unifiedSettings(m *specs.LinuxMemory, cpu *specs.LinuxCPU, io *specs.LinuxBlockIO) []setting {
	quota, weight, block, swap := "max", "100", "", "max"
	if cpu.Quota != nil && *cpu.Quota > 0 {
		quota = strconv.FormatInt(*cpu.Quota, 10)
	}
	if cpu.Period != nil {
		quota += " " + strconv.FormatUint(*cpu.Period, 10)
	}
	if cpu.Shares != nil {
		weight = strconv.FormatUint(weightOf(*cpu.Shares), 10)
	}
	if io.Weight != nil { // from 10..1000 to 1..10000, as runc does
		block = strconv.FormatUint(1+(uint64(*io.Weight)-10)*9999/990, 10)
	}
	if m.Swap != nil && *m.Swap > 0 && m.Limit != nil {
		swap = strconv.FormatInt(*m.Swap-*m.Limit, 10) // the kernel counts swap alone
	}
	return []setting{{[]string{"memory.max"}, bytes(m.Limit, "max"), "the memory limit"}, {[]string{"memory.swap.max"}, swap, "the limit of memory and swap"},
		{[]string{"memory.low"}, bytes(m.Reservation, "0"), "the memory reservation"},
		{[]string{"cpu.max"}, quota, "the limit of cpus"}, {[]string{"cpu.weight"}, weight, "the cpu shares"},
		{[]string{"io.bfq.weight", "io.weight"}, block, "the block I/O weight"}}
}

// weightOf turns shares into the weight of version 2 as runc 1.3 and later do:
// the least, the default and the most of both scales meet.
func weightOf(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// write sets one value and returns what takes it back.
func (s *setting) write(group string) (back func(), err error) {
	ds, err := dirs(group)
	if err != nil {
		return nil, err
	}
	for _, name := range s.files {
		for _, d := range ds {
			file := filepath.Join(d, name)
			old, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(file, []byte(s.value), 0)
			}
			if err != nil {
				return nil, fault.Opaque(fmt.Errorf("the kernel refuses %s of %q: %w", s.what, s.value, err))
			}
			return func() { os.WriteFile(file, []byte(strings.TrimPrefix(strings.TrimSpace(string(old)), "default ")), 0) }, nil
		}
	}
	return nil, fault.Unsupported("%s cannot be enforced: the control group %s has no file %s", s.what, group, s.files[0])
}
