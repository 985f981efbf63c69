package cgroup

import "time"

// Stats is what the kernel counted for a group.
type Stats struct {
	CPU           time.Duration // of all processors
	User, System  time.Duration // parts of it, counted more coarsely
	Periods       uint64        // of the limit on processor time
	Throttled     uint64        // those in which processes had to wait
	ThrottledTime time.Duration

	Memory       uint64 // bytes, with the page cache
	InactiveFile uint64 // bytes of it that the kernel may take back first
	MemoryMax    uint64 // the most it ever was; 0 where the kernel does not tell
	MemoryLimit  uint64 // math.MaxUint64: none
	Pids         uint64
	PidsLimit    uint64 // 0: none
	ReadBytes    uint64 // of block devices
	WriteBytes   uint64
	ReadOps      uint64
	WriteOps     uint64
}
