package main

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// lookup finds the name of an id in /etc/passwd or /etc/group.
func lookup(file string, id int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) > 2 && fields[2] == strconv.Itoa(id) {
			return fields[0]
		}
	}
	return ""
}

func named(file string, id int) string {
	if n := lookup(file, id); n != "" {
		return fmt.Sprintf("%d(%s)", id, n)
	}
	return strconv.Itoa(id)
}

// id prints as id(1); -u and -g only the number.
func id(args []string) int {
	opts, _ := flags(args)
	switch {
	case strings.Contains(opts, "u"):
		fmt.Println(os.Geteuid())
		return 0
	case strings.Contains(opts, "g"):
		fmt.Println(os.Getegid())
		return 0
	}
	groups, err := os.Getgroups()
	if err != nil {
		return fail("id", err)
	}
	var all []string
	for _, g := range groups {
		all = append(all, named("/etc/group", g))
	}
	fmt.Printf("uid=%s gid=%s groups=%s\n", named("/etc/passwd", os.Geteuid()), named("/etc/group", os.Getegid()), strings.Join(all, ","))
	return 0
}

func whoami([]string) int {
	n := lookup("/etc/passwd", os.Geteuid())
	if n == "" {
		return fail("whoami", fmt.Errorf("no name for uid %d", os.Geteuid()))
	}
	fmt.Println(n)
	return 0
}

func hostname(args []string) int {
	if len(args) > 0 {
		if err := syscall.Sethostname([]byte(args[0])); err != nil {
			return fail("hostname", err)
		}
		return 0
	}
	n, err := os.Hostname()
	if err != nil {
		return fail("hostname", err)
	}
	fmt.Println(n)
	return 0
}

// mount without arguments lists mountinfo; with TYPE SOURCE TARGET it tries to
// mount, which a container must usually be denied.
func mount(args []string) int {
	if len(args) == 0 {
		return cat([]string{"/proc/self/mountinfo"})
	}
	if len(args) != 3 {
		return usage("mount [TYPE SOURCE TARGET]")
	}
	if err := syscall.Mount(args[1], args[2], args[0], 0, ""); err != nil {
		return fail("mount", err)
	}
	return 0
}

func umask(args []string) int {
	if len(args) == 0 {
		old := syscall.Umask(0)
		syscall.Umask(old)
		fmt.Printf("%04o\n", old)
		return 0
	}
	mode, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil {
		return fail("umask", err)
	}
	syscall.Umask(int(mode))
	return 0
}

// ulimit prints soft and hard limits of this process, one a line, by the names
// that --ulimit uses.
func ulimit([]string) int {
	f, err := os.Open("/proc/self/limits")
	if err != nil {
		return fail("ulimit", err)
	}
	defer f.Close()
	names := map[string]string{
		"Max cpu time": "cpu", "Max file size": "fsize", "Max data size": "data", "Max stack size": "stack", "Max core file size": "core",
		"Max resident set": "rss", "Max processes": "nproc", "Max open files": "nofile", "Max locked memory": "memlock",
		"Max address space": "as", "Max file locks": "locks", "Max pending signals": "sigpending", "Max msgqueue size": "msgqueue",
		"Max nice priority": "nice", "Max realtime priority": "rtprio", "Max realtime timeout": "rttime",
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if len(line) < 26 {
			continue
		}
		if n := names[strings.TrimSpace(line[:26])]; n != "" {
			fields := strings.Fields(line[26:])
			fmt.Println(n, fields[0], fields[1])
		}
	}
	return 0
}

// sysctl KEY... prints values; KEY=VALUE sets.
func sysctl(args []string) int {
	return each("sysctl", args, func(a string) error {
		key, value, set := strings.Cut(a, "=")
		file := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if set {
			return os.WriteFile(file, []byte(value), 0)
		}
		data, err := os.ReadFile(file)
		if err == nil {
			fmt.Printf("%s = %s\n", key, strings.TrimSpace(string(data)))
		}
		return err
	})
}

// caps prints the lines of /proc/self/status about privileges.
func caps([]string) int {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fail("caps", err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Seccomp:") {
			fmt.Print(strings.ReplaceAll(line, "\t", " "))
		}
	}
	return 0
}

// ns prints the namespaces of this process.
func ns([]string) int {
	links, _ := filepath.Glob("/proc/self/ns/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil {
			fmt.Println(filepath.Base(l), to)
		}
	}
	return 0
}

// fds prints every open descriptor but the one used for looking.
func fds([]string) int {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return fail("fds", err)
	}
	defer dir.Close()
	all, _ := dir.Readdirnames(-1)
	for _, n := range all {
		to, err := os.Readlink("/proc/self/fd/" + n)
		if err != nil || n == strconv.Itoa(int(dir.Fd())) || strings.HasPrefix(to, "anon_inode:[event") {
			continue
		}
		fmt.Println(n, to)
	}
	return 0
}

// winsize is struct winsize of ioctl_tty(2).
type winsize struct{ rows, cols, xpixel, ypixel uint16 }

func windowSize(fd uintptr) (winsize, bool) {
	var w winsize
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&w)))
	return w, errno == 0
}

// tty prints whether stdin is a terminal and its size as "rows cols"; with -w
// it then prints every new size for as long as it lives.
func tty(args []string) int {
	opts, _ := flags(args)
	w, ok := windowSize(0)
	if !ok {
		fmt.Println("not a tty")
		return 1
	}
	changed := make(chan os.Signal, 8)
	signal.Notify(changed, syscall.SIGWINCH)
	name, _ := os.Readlink("/proc/self/fd/0")
	fmt.Println("tty", name, w.rows, w.cols)
	if !strings.Contains(opts, "w") {
		return 0
	}
	for range changed {
		w, _ = windowSize(0)
		fmt.Println("size", w.rows, w.cols)
	}
	return 0
}

// stty knows "size", "raw", "-echo" and "echo".
func stty(args []string) int {
	if len(args) != 1 {
		return usage("stty size|raw|echo|-echo")
	}
	if args[0] == "size" {
		w, ok := windowSize(0)
		if !ok {
			return fail("stty", syscall.ENOTTY)
		}
		fmt.Println(w.rows, w.cols)
		return 0
	}
	var t syscall.Termios
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TCGETS, uintptr(unsafe.Pointer(&t))); errno != 0 {
		return fail("stty", errno)
	}
	switch args[0] {
	case "echo":
		t.Lflag |= syscall.ECHO
	case "-echo":
		t.Lflag &^= syscall.ECHO
	case "raw":
		t.Lflag &^= syscall.ECHO | syscall.ICANON | syscall.ISIG | syscall.IEXTEN
		t.Iflag &^= syscall.ICRNL | syscall.IXON
		t.Oflag &^= syscall.OPOST
	default:
		return usage("stty size|raw|echo|-echo")
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TCSETS, uintptr(unsafe.Pointer(&t))); errno != 0 {
		return fail("stty", errno)
	}
	return 0
}
