// Command testbox is the only program in amphora's test images: one static
// binary that acts as the small tool it is called by, as busybox does. It has
// no dependency but the standard library, is compiled by package testenv, and
// does what tests of a container engine need to see: credentials, mounts,
// limits, signals, terminals, sockets and denied system calls.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// applets maps a name to its code; the result is the exit code. It is filled
// in an init function because sh itself looks names up.
var applets map[string]func(args []string) int

func init() {
	applets = map[string]func([]string) int{
		"true": func([]string) int { return 0 }, "false": func([]string) int { return 1 },
		"echo": echo, "cat": cat, "sh": sh, "env": env, "args": args, "exit": exit,
		"pwd": pwd, "ls": ls, "stat": stat, "mkdir": mkdir, "rm": rm, "touch": touch, "write": write,
		"chmod": chmod, "chown": chown, "ln": ln, "mknod": mknod, "readlink": readlink,
		"test": test, "[": test, "fill": fill, "sync": syncAll, "stdin-count": stdinCount,
		"id": id, "whoami": whoami, "hostname": hostname, "mount": mount, "umask": umask,
		"ulimit": ulimit, "sysctl": sysctl, "caps": caps, "ns": ns, "fds": fds,
		"seccomp-probe": seccompProbe,
		"sleep":         sleep, "pause": pause, "trap": trap, "kill": kill, "ps": ps, "spew": spew, "snoop": snoop,
		"memhog": memhog, "forkbomb": forkbomb, "cpu": cpu, "zombie": zombie,
		"tty": tty, "stty": stty,
		"http": httpServe, "get": httpGet, "tcpecho": tcpecho, "udpecho": udpecho,
		"answer": answer, "dial": dial, "listen": listen, "nslookup": nslookup, "ip": ipAddr,
		"applets": list,
	}
}

func main() {
	name, rest := filepath.Base(os.Args[0]), os.Args[1:]
	run := applets[strings.TrimPrefix(name, "-")]
	if run == nil && len(rest) > 0 { // testbox APPLET ARG...
		name, rest = rest[0], rest[1:]
		run = applets[name]
	}
	if run == nil {
		fmt.Fprintf(os.Stderr, "testbox: no applet %q; there are: %s\n", name, strings.Join(names(), " "))
		os.Exit(127)
	}
	os.Exit(run(rest))
}

func names() []string {
	var all []string
	for n := range applets {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func list([]string) int {
	for _, n := range names() {
		fmt.Println(n)
	}
	return 0
}

// fail prints as tools do and gives the usual code.
func fail(name string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}

// usage is the answer to wrong arguments.
func usage(text string) int {
	fmt.Fprintln(os.Stderr, "usage: "+text)
	return 2
}

// each calls f for every argument and fails if one did.
func each(name string, args []string, f func(string) error) int {
	code := 0
	for _, a := range args {
		if err := f(a); err != nil {
			code = fail(name, err)
		}
	}
	return code
}

// flags splits leading single-letter options from the arguments: -la gives "la".
func flags(args []string) (string, []string) {
	var set string
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		set += strings.TrimLeft(args[0], "-")
		args = args[1:]
	}
	return set, args
}
