// Package host tells what this machine offers to containers: processors,
// control groups, devices, kernel features.
package host

// Facts are what a container's configuration depends on.
type Facts struct {
	CPUs        int
	Unified     bool // cgroup v2 only
	SwapLimits  bool // swap can be limited
	Hostname    string
	RecursiveRO bool // mount_setattr (Linux 5.12): read-only binds with all that is mounted below
}

// Finding is something that this machine lacks.
type Finding struct {
	Name    string // what was looked for
	Problem string // what is wrong with it
	Cure    string // what to do; may be empty
	Needed  bool   // containers cannot run without it
}
