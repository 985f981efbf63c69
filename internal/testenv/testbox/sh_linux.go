package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// shell is a tiny sh: words with quotes, $VAR ${VAR} $? $$, VAR=x, ; && || &
// newline, # comments, redirections < > >> 2> 2>> 2>&1 >&2, ! and the builtins
// cd exit export exec wait umask. No pipes, no if, no loops, no patterns: a
// test that needs these deserves an applet of its own.
type shell struct {
	last    int
	args    []string // $0 $1 ...
	running []*exec.Cmd
}

// sh [-c SCRIPT [NAME ARG...]] | [FILE [ARG...]] | nothing: from stdin.
func sh(args []string) int {
	s := &shell{args: []string{"sh"}}
	opts, rest := flags(args)
	switch {
	case strings.Contains(opts, "c"):
		if len(rest) == 0 {
			return usage("sh -c SCRIPT")
		}
		if len(rest) > 1 {
			s.args = rest[1:]
		}
		return s.run(rest[0])
	case len(rest) > 0:
		script, err := os.ReadFile(rest[0])
		if err != nil {
			return fail("sh", err)
		}
		s.args = rest
		return s.run(string(script))
	}
	return s.interactive()
}

func (s *shell) interactive() int {
	_, isTTY := windowSize(0)
	if isTTY {
		signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		if isTTY {
			fmt.Print("# ")
		}
		line, err := in.ReadString('\n')
		s.run(line)
		if err != nil {
			return s.last
		}
	}
}

func (s *shell) run(script string) int {
	tokens, err := split(script)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return 2
	}
	var words []token
	skip := false // the command after a && or || that is not due
	for _, t := range append(tokens, token{op: ";"}) {
		if t.op == "" || strings.ContainsAny(t.op, "<>") {
			words = append(words, t)
			continue
		}
		if len(words) > 0 && !skip {
			s.last = s.command(words, t.op == "&")
		}
		words = nil
		skip = t.op == "&&" && s.last != 0 || t.op == "||" && s.last == 0
	}
	return s.last
}

// command runs one simple command.
func (s *shell) command(tokens []token, background bool) int {
	var words, assign []string
	files := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	var opened []*os.File
	defer func() {
		for _, f := range opened {
			f.Close()
		}
	}()
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if t.op != "" {
			if t.op == "2>&1" {
				files[2] = files[1]
				continue
			}
			if t.op == ">&2" {
				files[1] = files[2]
				continue
			}
			i++
			if i == len(tokens) {
				fmt.Fprintln(os.Stderr, "sh: nothing after", t.op)
				return 2
			}
			f, n, err := redirect(t.op, s.expand(tokens[i]))
			if err != nil {
				return fail("sh", err)
			}
			files[n], opened = f, append(opened, f)
			continue
		}
		w := s.expand(t)
		name, _, ok := strings.Cut(w, "=")
		if ok && len(words) == 0 && isName(name) {
			assign = append(assign, w)
		} else if w != "" || t.quoted {
			words = append(words, w)
		}
	}
	if len(words) == 0 {
		return s.export(assign)
	}
	if words[0] == "!" {
		if s.start(words[1:], assign, files, background) == 0 {
			return 1
		}
		return 0
	}
	return s.start(words, assign, files, background)
}

// export sets variables. They all are environment: this shell has no others.
func (s *shell) export(assign []string) int {
	for _, a := range assign {
		name, value, _ := strings.Cut(a, "=")
		os.Setenv(name, value)
	}
	return 0
}

func redirect(op, name string) (*os.File, int, error) {
	fd := 1
	if strings.HasPrefix(op, "2") {
		fd, op = 2, op[1:]
	}
	switch op {
	case "<":
		f, err := os.Open(name)
		return f, 0, err
	case ">>":
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
		return f, fd, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	return f, fd, err
}

func (s *shell) start(words, assign []string, files [3]*os.File, background bool) int {
	switch words[0] {
	case "cd":
		if err := os.Chdir(addrOf(words[1:], os.Getenv("HOME"))); err != nil {
			return fail("cd", err)
		}
		return 0
	case "exit":
		if len(words) > 1 {
			s.last = exit(words[1:])
		}
		os.Exit(s.last)
	case "export":
		return s.export(words[1:])
	case "umask":
		return umask(words[1:])
	case ":":
		return 0
	case "wait":
		for _, c := range s.running {
			s.last = codeOf(files[2], words[0], c.Wait())
		}
		s.running = nil
		return s.last
	case "exec":
		return s.replace(words[1:], files)
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return codeOf(files[2], words[0], err)
	}
	c := exec.Command(path, words[1:]...)
	c.Args[0] = words[0]
	c.Env = append(os.Environ(), assign...)
	c.Stdin, c.Stdout, c.Stderr = files[0], files[1], files[2]
	if err := c.Start(); err != nil {
		return codeOf(files[2], words[0], err)
	}
	if background {
		s.running = append(s.running, c)
		return 0
	}
	return codeOf(files[2], words[0], c.Wait())
}

// replace is exec: this process becomes the command.
func (s *shell) replace(words []string, files [3]*os.File) int {
	if len(words) == 0 {
		return 0
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return codeOf(files[2], words[0], err)
	}
	for n, f := range files {
		if int(f.Fd()) != n {
			syscall.Dup3(int(f.Fd()), n, 0)
		}
	}
	return codeOf(files[2], words[0], syscall.Exec(path, words, os.Environ()))
}

// runCommand is for applets that run another one: env CMD.
func runCommand(args []string) int {
	s := &shell{}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		s.export(args[:1])
		args = args[1:]
	}
	if len(args) == 0 {
		return env(nil)
	}
	return s.replace(args, [3]*os.File{os.Stdin, os.Stdout, os.Stderr})
}

// codeOf maps the end of a command to a shell's exit code.
func codeOf(stderr *os.File, name string, err error) int {
	var ee *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ee):
		st := ee.Sys().(syscall.WaitStatus)
		if st.Signaled() {
			return 128 + int(st.Signal())
		}
		return st.ExitStatus()
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(stderr, "sh: %s: not found\n", name)
		return 127
	}
	fmt.Fprintf(stderr, "sh: %s: %v\n", name, err)
	return 126
}

func isName(s string) bool {
	return s != "" && !slices.ContainsFunc([]byte(s), func(c byte) bool { return !isNameByte(c) })
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// variable is the value of $name.
func (s *shell) variable(name string) string {
	switch name {
	case "?":
		return strconv.Itoa(s.last)
	case "$":
		return strconv.Itoa(os.Getpid())
	case "@", "*":
		return strings.Join(s.args[1:], " ")
	case "#":
		return strconv.Itoa(len(s.args) - 1)
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n < len(s.args) {
			return s.args[n]
		}
		return ""
	}
	return os.Getenv(name)
}
