package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	"USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM, "CHLD": syscall.SIGCHLD, "CONT": syscall.SIGCONT,
	"STOP": syscall.SIGSTOP, "WINCH": syscall.SIGWINCH,
}

func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return syscall.Signal(n), nil
	}
	if sig, ok := signals[strings.TrimPrefix(s, "SIG")]; ok {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

// dieOf ends this process by sig, truly by the signal where the kernel lets
// us: the first process of a pid namespace ignores a default action, so there
// it is exit code 128+sig.
func dieOf(sig os.Signal) {
	n := sig.(syscall.Signal)
	if os.Getpid() != 1 {
		signal.Reset(n)
		syscall.Kill(os.Getpid(), n)
		time.Sleep(time.Second)
	}
	os.Exit(128 + int(n))
}

// sleep SECONDS (default: for ever) dies of TERM and INT, also as pid 1.
func sleep(args []string) int {
	ends := make(<-chan time.Time)
	if len(args) > 0 && args[0] != "inf" && args[0] != "infinity" {
		sec, err := strconv.ParseFloat(strings.TrimSuffix(args[0], "s"), 64)
		if err != nil {
			return fail("sleep", err)
		}
		ends = time.After(time.Duration(sec * float64(time.Second)))
	}
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-ends:
	case sig := <-got:
		dieOf(sig)
	}
	return 0
}

func pause([]string) int { return sleep(nil) }

// trap catches TERM, INT, HUP, USR1 and USR2 and prints each; "trap ready" is
// printed first. With -x CODE it exits with CODE at the first TERM.
func trap(args []string) int {
	code := -1
	if len(args) == 2 && args[0] == "-x" {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return fail("trap", err)
		}
		code = n
	}
	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	fmt.Println("trap ready")
	for sig := range got {
		fmt.Printf("trap got %d %s\n", int(sig.(syscall.Signal)), sig)
		if sig == syscall.SIGTERM && code >= 0 {
			return code
		}
	}
	return 0
}

// kill [-SIG] PID...
func kill(args []string) int {
	sig := syscall.SIGTERM
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		s, err := parseSignal(args[0][1:])
		if err != nil {
			return fail("kill", err)
		}
		sig, args = s, args[1:]
	}
	return each("kill", args, func(a string) error {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("%d: %w", pid, err)
		}
		return nil
	})
}

// process is one line of ps.
type process struct {
	pid, ppid int
	state     string
	args      string
}

func processes() []process {
	var all []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		data, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it ended meanwhile
		}
		text := string(data)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		cmd, _ := os.ReadFile(dir + "/cmdline")
		p := process{state: fields[0], args: strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))}
		p.pid, _ = strconv.Atoi(filepath.Base(dir))
		p.ppid, _ = strconv.Atoi(fields[1])
		if p.args == "" {
			p.args = text[strings.IndexByte(text, '('):strings.LastIndexByte(text, ')')] + ")"
		}
		all = append(all, p)
	}
	return all
}

// ps prints pid, parent, state and arguments of every process.
func ps([]string) int {
	for _, p := range processes() {
		fmt.Println(p.pid, p.ppid, p.state, p.args)
	}
	return 0
}

// spew N [TEXT] writes N numbered lines as fast as it can; -n leaves the last
// one without its newline, -e writes to stderr, -u writes line by line.
func spew(args []string) int {
	opts, args := flags(args)
	if len(args) < 1 {
		return usage("spew [-neu] N [TEXT]")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fail("spew", err)
	}
	text := "the quick brown fox jumps over the lazy dog and runs through the forest until the night is there"
	if len(args) > 1 {
		text = args[1]
	}
	out := os.Stdout
	if strings.Contains(opts, "e") {
		out = os.Stderr
	}
	w := bufio.NewWriterSize(out, 64<<10)
	for i := 1; i <= n; i++ {
		w.WriteString(strconv.Itoa(i))
		w.WriteByte(' ')
		w.WriteString(text)
		if i < n || !strings.Contains(opts, "n") {
			w.WriteByte('\n')
		}
		if strings.Contains(opts, "u") {
			w.Flush()
		}
	}
	if err := w.Flush(); err != nil {
		return fail("spew", err)
	}
	return 0
}

// memhog BYTES [SECONDS] touches that much memory, says so, and holds it.
func memhog(args []string) int {
	if len(args) < 1 {
		return usage("memhog BYTES[k|m|g] [SECONDS]")
	}
	n, err := size(args[0])
	if err != nil {
		return fail("memhog", err)
	}
	held, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return fail("memhog", err)
	}
	for i := 0; i < n; i += 4096 {
		held[i] = 1
	}
	fmt.Println("memhog holds", n)
	if len(args) > 1 {
		return sleep(args[1:])
	}
	return 0
}

// forkbomb N starts N sleeping children, prints how many it could, ends them.
func forkbomb(args []string) int {
	if len(args) < 1 {
		return usage("forkbomb N")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fail("forkbomb", err)
	}
	var children []*exec.Cmd
	for range n {
		c := applet("sleep", "1000")
		if err = c.Start(); err != nil {
			break
		}
		children = append(children, c)
	}
	fmt.Println("forked", len(children), err)
	for _, c := range children {
		c.Process.Kill()
		c.Wait()
	}
	return 0
}

// cpu [SECONDS] keeps one core busy, for ever without an argument.
func cpu(args []string) int {
	end := time.Now().Add(1000 * time.Hour)
	if len(args) > 0 {
		sec, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			return fail("cpu", err)
		}
		end = time.Now().Add(time.Duration(sec * float64(time.Second)))
	}
	for n := 0; ; n++ {
		if n%(1<<20) == 0 && time.Now().After(end) {
			return 0
		}
	}
}

// zombie makes an orphan that ends at once and prints how many zombies are
// left a little later: none where pid 1 reaps, one where it does not.
func zombie(args []string) int {
	if len(args) == 1 && args[0] == "middle" {
		if err := applet("sleep", "0.05").Start(); err != nil {
			return fail("zombie", err)
		}
		return 0
	}
	if err := applet("zombie", "middle").Run(); err != nil {
		return fail("zombie", err)
	}
	left := 0
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		left = 0
		for _, p := range processes() {
			if p.state == "Z" {
				left++
			}
		}
	}
	fmt.Println("zombies", left)
	return 0
}

// applet is a command that runs this binary again.
func applet(name string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = "/bin/testbox"
	}
	c := exec.Command(self, append([]string{name}, args...)...)
	c.Args[0] = "testbox"
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c
}
