package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// site is the temporary directory that everything is made in, and the way to
// leave nothing behind.
type site struct {
	dir      string
	volume   string // file that holds the file system mounted at dir; empty: none
	cleanups []func()
}

// newSite makes the directory below parent: the mount point of a new ext4 in a
// sparse file, unless bare. Where an ext4 without a journal deletes much, it
// steps over the inodes of the last minute's deletions at each creation
// (recently_deleted in fs/ext4/ialloc.c), which costs seconds and falls on
// whoever comes next; and what else the machine does on its disk stays outside.
func newSite(ctx context.Context, parent string, bare bool) (*site, error) {
	// What the peers leave without a parent becomes our child, so that it can
	// be found and reaped also where process 1 does not care.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	// Podman refuses paths of more than 50 bytes: keep it short.
	dir, err := os.MkdirTemp(parent, "amphora-bench-")
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir}
	if bare {
		return s, nil
	}
	s.volume = dir + ".img"
	f, err := os.OpenFile(s.volume, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if err := f.Truncate(volumeSize); err != nil {
		return s, err
	}
	mkfs := &tool{argv: []string{"mkfs.ext4"}}
	if err := mkfs.run(ctx, "-q", "-F", s.volume); err != nil {
		return s, err
	}
	mount := &tool{argv: []string{"mount"}}
	if err := mount.run(ctx, "-o", "loop", s.volume, s.dir); err != nil {
		return s, err
	}
	if err := os.Mkdir(s.state(), 0o755); err != nil {
		return s, err
	}
	return s, mount.run(ctx, "-t", "tmpfs", "-o", "mode=755", "tmpfs", s.state())
}

// volumeSize is more than a full run occupies; the file is sparse.
const volumeSize = 20 << 30

func (s *site) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// state is where everybody keeps what does not survive a reboot: on tmpfs, as
// /run is, which is the default of all.
func (s *site) state(names ...string) string {
	return s.path(append([]string{"run"}, names...)...)
}

// later registers what is undone in the end, the last first.
func (s *site) later(f func()) { s.cleanups = append(s.cleanups, f) }

// clean undoes everything. It removes the directory only when nothing is
// mounted below it any more.
func (s *site) clean() error {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	endChildren()
	if err := s.unmount(); err != nil {
		return err
	}
	if s.volume != "" {
		if err := os.Remove(s.volume); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.dir)
}

func (s *site) unmount() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if point := unescape(fields[4]); point == s.dir || strings.HasPrefix(point, s.dir+"/") {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) {
		if uerr := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); uerr != nil && !errors.Is(uerr, unix.EINVAL) {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w; %s stays", p, uerr, s.dir))
		}
	}
	return err
}

// unescape reads the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
