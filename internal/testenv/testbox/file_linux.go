package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func echo(args []string) int {
	end := "\n"
	if len(args) > 0 && args[0] == "-n" {
		end, args = "", args[1:]
	}
	if _, err := io.WriteString(os.Stdout, strings.Join(args, " ")+end); err != nil {
		return fail("echo", err)
	}
	return 0
}

func cat(args []string) int {
	if len(args) == 0 {
		args = []string{"-"}
	}
	return each("cat", args, func(name string) error {
		if name == "-" {
			_, err := io.Copy(os.Stdout, os.Stdin)
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(os.Stdout, f)
		return err
	})
}

func env(args []string) int {
	if len(args) > 0 {
		return runCommand(args)
	}
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
	return 0
}

// args shows each argument on its own line, quoted, so that tests see what an
// entrypoint was really given.
func args(args []string) int {
	for _, a := range args {
		fmt.Printf("%q\n", a)
	}
	return 0
}

func exit(args []string) int {
	if len(args) == 0 {
		return 0
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fail("exit", err)
	}
	return n
}

func pwd([]string) int {
	dir, err := os.Getwd()
	if err != nil {
		return fail("pwd", err)
	}
	fmt.Println(dir)
	return 0
}

func ls(args []string) int {
	opts, args := flags(args)
	if len(args) == 0 {
		args = []string{"."}
	}
	return each("ls", args, func(name string) error {
		entries, err := os.ReadDir(name)
		if errors.Is(err, syscall.ENOTDIR) {
			return statLine(name)
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") && !strings.Contains(opts, "a") {
				continue
			}
			if !strings.Contains(opts, "l") {
				fmt.Println(e.Name())
				continue
			}
			if err := statLine(filepath.Join(name, e.Name())); err != nil {
				return err
			}
		}
		return nil
	})
}

func stat(args []string) int { return each("stat", args, statLine) }

// statLine prints: type, octal mode with the setuid, setgid and sticky bits,
// uid:gid, links, size, rdev major:minor, mtime in seconds, name [-> target].
func statLine(name string) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	kinds := map[uint32]string{
		syscall.S_IFREG: "file", syscall.S_IFDIR: "dir", syscall.S_IFLNK: "symlink", syscall.S_IFCHR: "char",
		syscall.S_IFBLK: "block", syscall.S_IFIFO: "fifo", syscall.S_IFSOCK: "socket",
	}
	target := ""
	if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		to, _ := os.Readlink(name)
		target = " -> " + to
	}
	rdev := uint64(st.Rdev)
	major, minor := (rdev>>8)&0xfff|(rdev>>32)&^0xfff, rdev&0xff|(rdev>>12)&^0xff
	fmt.Printf("%s %04o %d:%d %d %d %d:%d %d %s%s\n", kinds[st.Mode&syscall.S_IFMT], st.Mode&0o7777,
		st.Uid, st.Gid, st.Nlink, st.Size, major, minor, st.Mtim.Sec, name, target)
	return nil
}

func mkdir(args []string) int {
	opts, args := flags(args)
	return each("mkdir", args, func(name string) error {
		if strings.Contains(opts, "p") {
			return os.MkdirAll(name, 0o777)
		}
		return os.Mkdir(name, 0o777)
	})
}

func rm(args []string) int {
	opts, args := flags(args)
	return each("rm", args, func(name string) error {
		err := os.Remove(name)
		if strings.Contains(opts, "r") {
			err = os.RemoveAll(name)
		}
		if strings.Contains(opts, "f") && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func touch(args []string) int {
	return each("touch", args, func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// write FILE TEXT... replaces the content of FILE, with a newline at the end.
func write(args []string) int {
	if len(args) < 1 {
		return usage("write FILE TEXT...")
	}
	if err := os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")+"\n"), 0o666); err != nil {
		return fail("write", err)
	}
	return 0
}

func chmod(args []string) int {
	if len(args) < 2 {
		return usage("chmod OCTAL FILE...")
	}
	mode, err := strconv.ParseUint(args[0], 8, 32)
	if err != nil {
		return fail("chmod", err)
	}
	return each("chmod", args[1:], func(name string) error {
		if err := syscall.Chmod(name, uint32(mode)); err != nil {
			return &fs.PathError{Op: "chmod", Path: name, Err: err}
		}
		return nil
	})
}

func chown(args []string) int {
	if len(args) < 2 {
		return usage("chown UID:GID FILE...")
	}
	u, g, _ := strings.Cut(args[0], ":")
	uid, err1 := strconv.Atoi(u)
	gid, err2 := strconv.Atoi(g)
	if err := errors.Join(err1, err2); err != nil {
		return fail("chown", err)
	}
	return each("chown", args[1:], func(name string) error { return os.Lchown(name, uid, gid) })
}

func ln(args []string) int {
	opts, args := flags(args)
	if len(args) != 2 {
		return usage("ln [-s] TARGET NAME")
	}
	link := os.Link
	if strings.Contains(opts, "s") {
		link = os.Symlink
	}
	if err := link(args[0], args[1]); err != nil {
		return fail("ln", err)
	}
	return 0
}

// mknod NAME c|b MAJOR MINOR, or NAME p.
func mknod(args []string) int {
	kinds := map[string]uint32{"c": syscall.S_IFCHR, "b": syscall.S_IFBLK, "p": syscall.S_IFIFO}
	if len(args) < 2 || kinds[args[1]] == 0 || args[1] != "p" && len(args) != 4 {
		return usage("mknod NAME c|b MAJOR MINOR | NAME p")
	}
	dev := 0
	if len(args) == 4 {
		major, err1 := strconv.Atoi(args[2])
		minor, err2 := strconv.Atoi(args[3])
		if err := errors.Join(err1, err2); err != nil {
			return fail("mknod", err)
		}
		dev = major<<8 | minor&0xff | (minor&^0xff)<<12
	}
	if err := syscall.Mknod(args[0], kinds[args[1]]|0o666, dev); err != nil {
		return fail("mknod", &fs.PathError{Op: "mknod", Path: args[0], Err: err})
	}
	return 0
}

func readlink(args []string) int {
	return each("readlink", args, func(name string) error {
		to, err := os.Readlink(name)
		if err == nil {
			fmt.Println(to)
		}
		return err
	})
}

// test knows -e -f -d -L -w -x -s FILE, -n -z STRING, A = B, A != B.
func test(args []string) int {
	if n := len(args); n > 0 && args[n-1] == "]" {
		args = args[:n-1]
	}
	ok := false
	switch len(args) {
	case 1:
		ok = args[0] != ""
	case 2:
		ok = testOne(args[0], args[1])
	case 3:
		ok = args[1] == "=" && args[0] == args[2] || args[1] == "!=" && args[0] != args[2]
	}
	if ok {
		return 0
	}
	return 1
}

func testOne(op, v string) bool {
	info, err := os.Stat(v)
	switch op {
	case "-n":
		return v != ""
	case "-z":
		return v == ""
	case "-e":
		return err == nil
	case "-f":
		return err == nil && info.Mode().IsRegular()
	case "-d":
		return err == nil && info.IsDir()
	case "-s":
		return err == nil && info.Size() > 0
	case "-L":
		l, err := os.Lstat(v)
		return err == nil && l.Mode()&fs.ModeSymlink != 0
	case "-w":
		return syscall.Access(v, 2) == nil
	case "-x":
		return syscall.Access(v, 1) == nil
	}
	return false
}

// fill FILE BYTES writes that many bytes that do not compress to nothing.
func fill(args []string) int {
	if len(args) != 2 {
		return usage("fill FILE BYTES")
	}
	left, err := size(args[1])
	if err != nil {
		return fail("fill", err)
	}
	f, err := os.Create(args[0])
	if err != nil {
		return fail("fill", err)
	}
	block, seed := make([]byte, 64<<10), uint64(88172645463325252)
	for left > 0 && err == nil {
		for i := range block {
			seed ^= seed << 13
			seed ^= seed >> 7
			seed ^= seed << 17
			block[i] = byte(seed)
		}
		_, err = f.Write(block[:min(left, len(block))])
		left -= len(block)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fail("fill", err)
	}
	return 0
}

// size reads a byte count with an optional k, m or g.
func size(s string) (int, error) {
	unit := 1
	if s != "" {
		switch s[len(s)-1] {
		case 'k':
			unit = 1 << 10
		case 'm':
			unit = 1 << 20
		case 'g':
			unit = 1 << 30
		}
	}
	if unit > 1 {
		s = s[:len(s)-1]
	}
	n, err := strconv.Atoi(s)
	return n * unit, err
}

func syncAll([]string) int { syscall.Sync(); return 0 }

// stdinCount reads its input to the end and prints bytes and lines.
func stdinCount([]string) int {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fail("stdin-count", err)
	}
	fmt.Println(len(data), strings.Count(string(data), "\n"))
	return 0
}
