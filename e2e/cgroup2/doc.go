// Package cgroup2 tests amphora on machines with cgroup v2 alone: virtual ones,
// emulated by qemu, so that neither this machine's hierarchy nor its kernel
// matters. Kernel and systems are made of Debian's packages, nothing else is
// fetched.
//
// The program in guest runs there and reports on the serial console; the tests
// here make the machines and read what it says. docs/e2e.md has the last
// result.
package cgroup2
