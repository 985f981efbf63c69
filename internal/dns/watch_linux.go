package dns

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
	"golang.org/x/sys/unix"
)

// refresh takes in what has changed since the last query. z.mu is held.
func (z *zone) refresh(now time.Time) {
	if z.closed || len(z.dirs) == 0 {
		return
	}
	z.used = now
	if z.idle == nil {
		z.idle = time.AfterFunc(namesIdle, z.expire)
	}
	if z.inotify < 0 && !z.polling {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			z.polling = true // until the names are given up
		} else {
			z.inotify = fd
		}
	}
	if z.inotify >= 0 {
		z.drain(now)
	}
	for _, d := range z.dirs {
		if d.watch < 0 && now.Sub(d.tried) >= retry {
			d.tried = now
			z.watch(d, now)
		}
	}
}

const changes = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_MOVED_FROM |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// watch begins to watch a directory and reads it, in this order: what changes
// in between is told twice, not missed. A directory that cannot be watched is
// read now and again.
func (z *zone) watch(d *directory, now time.Time) {
	if z.inotify >= 0 {
		if wd, err := unix.InotifyAddWatch(z.inotify, d.path, changes); err == nil {
			d.watch = int32(wd)
		}
	}
	d.scan(now)
	if d.files == nil {
		z.unwatch(d) // it went away, or is not there yet
	}
}

func (z *zone) unwatch(d *directory) {
	if d.watch >= 0 && z.inotify >= 0 {
		unix.InotifyRmWatch(z.inotify, uint32(d.watch))
	}
	d.watch = -1
}

// drain reads inotify until it has nothing more to tell.
func (z *zone) drain(now time.Time) {
	if z.events == nil {
		z.events = make([]byte, 4096)
	}
	for {
		n, err := unix.Read(z.inotify, z.events)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for b := z.events[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if size > len(b) {
				break
			}
			name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
			z.event(int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]), string(name), now)
			b = b[size:]
		}
	}
}

func (z *zone) event(wd int32, mask uint32, name string, now time.Time) {
	for _, d := range z.dirs {
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0: // some were lost
			if d.watch >= 0 {
				d.scan(now)
			}
		case d.watch != wd:
		case mask&unix.IN_IGNORED != 0: // the kernel has ended the watch
			d.watch = -1
			d.clear()
			return
		case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
			z.unwatch(d)
			d.clear()
			d.tried = time.Time{} // another may be in its place already
			return
		case attachment.IsFile(name):
			d.load(name, now)
			return
		}
	}
}

// expire gives the names up when nobody asked for long.
func (z *zone) expire() {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed || z.idle == nil {
		return
	}
	if left := namesIdle - time.Since(z.used); left > 0 {
		z.idle.Reset(left)
		return
	}
	z.drop()
}

// drop forgets all names and ends the watches.
func (z *zone) drop() {
	if z.inotify >= 0 {
		unix.Close(z.inotify)
	}
	if z.idle != nil {
		z.idle.Stop()
	}
	z.inotify, z.polling, z.idle, z.events = -1, false, nil, nil
	for _, d := range z.dirs {
		d.watch, d.tried = -1, time.Time{}
		d.clear()
	}
}

func (z *zone) close() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.drop()
	z.closed = true
}

func inode(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
