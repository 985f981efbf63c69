//go:build linux

// Guest is the program under test of e2e/cgroup2: it runs inside the virtual
// machine, embeds amphora as any program would, and says on the serial console
// what it saw.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/amphora-go/amphora"
	"golang.org/x/sys/unix"
)

const (
	rootDir  = "/var/lib/amphora"
	stateDir = "/run/amphora"
	boxImage = "box"
	caseTime = 2 * time.Minute // the machine is emulated: some 40 times slower
)

// guest is one program with the store open.
type guest struct {
	ctx context.Context
	eng *amphora.Engine
	out *os.File
	bad int
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: guest plain|systemd|...")
		os.Exit(2)
	}
	mode := os.Args[1]
	g := &guest{ctx: context.Background(), out: os.Stdout}
	if serial, err := os.OpenFile("/dev/ttyS0", os.O_WRONLY|os.O_APPEND|unix.O_NOCTTY, 0); err == nil {
		g.out = serial
	}
	switch mode {
	case "sctp-serve":
		inside(sctpServe())
	case "sctp-ask":
		inside(sctpAsk(os.Args[2]))
	}
	run, ok := map[string]func(*guest) error{
		"plain": plain, "systemd": systemd, // the two machines
		"occupied": occupied, "leaf": leaf, "service": service, "owner": owner, // children of theirs
	}[mode]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown mode", mode)
		os.Exit(2)
	}
	err := run(g)
	if g.eng != nil {
		g.eng.Close()
	}
	if mode != "plain" && mode != "systemd" {
		if err != nil {
			g.say("child %s: %v", mode, err)
			os.Exit(1)
		}
		return
	}
	g.judge("end", err)
	if g.bad > 0 {
		g.say("END failed %d", g.bad)
	} else {
		g.say("END ok")
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// inside ends this program where it runs in a container.
func inside(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
	os.Exit(0)
}

// open opens the store, as each program that shares it does.
func (g *guest) open(parent string) error {
	var err error
	g.eng, err = amphora.Open(g.ctx, &amphora.Options{Root: rootDir, State: stateDir, CgroupParent: parent})
	return err
}

func (g *guest) say(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " | ")
	fmt.Fprintf(g.out, "e2e: %s\n", text)
}

func (g *guest) judge(name string, err error) {
	if err != nil {
		g.bad++
		g.say("FAIL %s: %v", name, err)
		return
	}
	g.say("PASS %s", name)
}

// step is one thing that must be so.
type step struct {
	name string
	do   func(g *guest) error
}

func (g *guest) all(steps []step) {
	for _, s := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), caseTime)
		g.ctx = ctx
		began := time.Now()
		err := s.do(g)
		cancel()
		g.judge(s.name, err)
		g.say("took %s %.1fs", s.name, time.Since(began).Seconds())
	}
	g.ctx = context.Background()
}

// check fails if something is needed, or if a limit would be refused that this
// machine can enforce.
func check(g *guest) error {
	findings, err := g.eng.Check(g.ctx)
	if err != nil {
		return err
	}
	var bad []string
	for _, f := range findings {
		g.say("check: %v", f)
		if f.Needed || strings.HasPrefix(f.Name, "cgroup") || f.Name == "swap limits" {
			bad = append(bad, f.Name)
		}
	}
	if bad != nil {
		return fmt.Errorf("this machine has: %v", bad)
	}
	return nil
}

func want[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// until polls for what other processes do.
func until(what string, f func() bool) error {
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("not so after 30 s: " + what)
		}
	}
	return nil
}
