package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks of a second, in /proc, on every architecture that Go has.
const ticks = 100

// Process is what ps shows of a process.
type Process struct {
	Pid, PPid int
	UID       int
	Comm      string
	Args      string // the command line; [comm] for what has none
	State     string
	TTY       string // "?", "pts/0"
	CPU       time.Duration
	Start     time.Time
	Nice      int
	Threads   int
	VSize     uint64 // bytes
	RSS       uint64 // bytes
}

// Boot is when the machine was started.
func Boot() (time.Time, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "btime" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return time.Unix(n, 0), err
		}
	}
	return time.Time{}, fmt.Errorf("/proc/stat has no btime")
}

// ReadProcess reads a process; boot is Boot's.
func ReadProcess(pid int, boot time.Time) (*Process, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	b, err := os.ReadFile(dir + "stat")
	if err != nil {
		return nil, err
	}
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("%sstat is not as expected", dir)
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 22 {
		return nil, fmt.Errorf("%sstat is not as expected", dir)
	}
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n } // field i+3 of proc(5)
	p := &Process{Pid: pid, Comm: text[open+1 : end], State: f[0], PPid: int(num(1)), TTY: tty(num(4)),
		CPU: time.Duration(num(11)+num(12)) * time.Second / ticks, Nice: int(num(16)), Threads: int(num(17)),
		Start: boot.Add(time.Duration(num(19)) * time.Second / ticks), VSize: uint64(num(20)), RSS: uint64(num(21)) * uint64(os.Getpagesize())}
	if b, err = os.ReadFile(dir + "cmdline"); err != nil {
		return nil, err
	}
	p.Args = strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ")
	if p.Args == "" {
		p.Args = "[" + p.Comm + "]"
	}
	if b, err = os.ReadFile(dir + "status"); err != nil {
		return nil, err
	}
	if _, rest, ok := strings.Cut(string(b), "\nUid:"); ok {
		if ids := strings.Fields(rest); len(ids) > 1 {
			p.UID, _ = strconv.Atoi(ids[1]) // the effective one
		}
	}
	return p, nil
}

// tty names a terminal by its device number.
func tty(dev int64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return "?"
}

// IsGone says whether an error of reading a process is its end.
func IsGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}
