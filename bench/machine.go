package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what a reader must know to judge the figures.
type machine struct {
	Kernel    string   `json:"kernel"`
	CPU       string   `json:"cpu"`
	CPUs      int      `json:"cpus"`
	MemoryMiB uint64   `json:"memoryMiB"`
	Cgroups   string   `json:"cgroups"`
	Disk      string   `json:"disk"`
	Versions  []string `json:"versions"`
	LoadStart string   `json:"loadStart"`
	LoadEnd   string   `json:"loadEnd"`
}

func look(ctx context.Context, at *site) machine {
	m := machine{CPUs: runtime.NumCPU(), Cgroups: "v1", LoadStart: loadAverage()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMiB = uint64(info.Totalram) * uint64(info.Unit) >> 20
	}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); m.CPU == "" && s.Scan(); {
			if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
			}
		}
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		m.Cgroups = "v2"
	}
	m.Disk = firstLine(ctx, "findmnt", "-n", "-o", "FSTYPE", "-T", at.dir)
	if at.volume != "" {
		m.Disk = "new " + m.Disk + " in a file on " + firstLine(ctx, "findmnt", "-n", "-o", "FSTYPE", "-T", at.volume)
	}
	m.Versions = append(m.Versions, runtime.Version(), "amphora "+revision(ctx))
	for _, v := range [][]string{{"dockerd", "--version"}, {"/usr/bin/docker", "--version"}, {"containerd", "--version"}, {"podman", "--version"},
		{"conmon", "--version"}, {"runc", "--version"}, {"docker-registry", "--version"}} {
		if line := firstLine(ctx, v...); line != "" {
			m.Versions = append(m.Versions, line)
		}
	}
	return m
}

// revision is the commit that is measured, with a mark if files differ.
func revision(ctx context.Context) string {
	return firstLine(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12")
}

func firstLine(ctx context.Context, argv ...string) string {
	out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// loadAverage of the last 1, 5 and 15 minutes.
func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func (m *machine) String() string {
	return fmt.Sprintf("%d CPUs (%s), %d MiB, Linux %s, cgroup %s, %s\n%s\nload average %s at start, %s at end; %s\n",
		m.CPUs, m.CPU, m.MemoryMiB, m.Kernel, m.Cgroups, m.Disk, strings.Join(m.Versions, "; "), m.LoadStart, m.LoadEnd, time.Now().UTC().Format(time.DateOnly))
}
