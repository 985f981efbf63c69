package dns

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amphora-go/amphora/internal/attachment"
)

// zone is what is known of the names on the container's networks. All of it is
// under one mutex rather than in immutable snapshots: taking in one changed
// file must not cost a copy of all names, and a query holds it for a microsecond.
type zone struct {
	mu      sync.Mutex
	state   string
	dirs    []*directory
	inotify int // descriptor; -1: none
	polling bool
	used    time.Time   // the last query
	idle    *time.Timer // gives the names up
	turn    int         // of round robin
	events  []byte      // buffer of inotify
	closed  bool
}

// directory is the names of one network.
type directory struct {
	network Network
	suffix  string // "." + the network's name
	path    string
	watch   int32     // of inotify; -1: none
	tried   time.Time // when a watch or a look was last tried
	changed time.Time // of the directory, at the last scan
	scanned time.Time

	files map[string]*entry // by file name
	names map[string][]*entry
	addrs map[netip.Addr]*entry
}

// entry is one attachment.
type entry struct {
	stamp stamp
	read  time.Time
	names []string
	addrs []netip.Addr
}

// stamp tells one version of a file from the next.
type stamp struct {
	changed time.Time
	size    int64
	inode   uint64
}

const (
	// retry is how often queries look again at a directory that cannot be
	// watched: it does not exist yet, or no inotify instance is left (128 for
	// each user is the kernel's default).
	retry = 20 * time.Millisecond

	// settled is how old a change must be for the time of a directory to tell
	// it from the next: the kernel's clock of files goes in ticks.
	settled = 50 * time.Millisecond

	// namesIdle is after how long without a query names are given up.
	namesIdle = 5 * time.Minute
)

func (z *zone) set(networks []Network) {
	z.mu.Lock()
	defer z.mu.Unlock()
	old := z.dirs
	z.dirs = nil
	for _, n := range networks {
		i := slices.IndexFunc(old, func(d *directory) bool { return d.network.Name == n.Name })
		if i >= 0 && n.Names {
			old[i].network = n
			z.dirs = append(z.dirs, old[i])
			old = slices.Delete(old, i, i+1)
			continue
		}
		if n.Names {
			z.dirs = append(z.dirs, &directory{network: n, suffix: "." + strings.ToLower(n.Name), path: attachment.Dir(z.state, n.Name), watch: -1})
		}
	}
	for _, d := range old {
		z.unwatch(d)
	}
}

// addresses appends the addresses of a name. The type decides the family: A,
// AAAA, or both. known is true if any network has the name.
func (z *zone) addresses(name []byte, qtype uint16, now time.Time, to []netip.Addr) (_ []netip.Addr, known bool, turn int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh(now)
	for _, d := range z.dirs {
		list := d.names[string(name)]
		if list == nil {
			if short, ok := cutSuffix(name, d.suffix); ok {
				list = d.names[string(short)]
			}
		}
		for _, e := range list {
			known = true
			for _, a := range e.addrs {
				if qtype == typeANY || a.Is4() && qtype == typeA || a.Is6() && qtype == typeAAAA {
					to = append(to, a)
				}
			}
		}
		if len(to) > 0 {
			break
		}
	}
	z.turn++
	return to, known, z.turn
}

// pointer returns NAME.NETWORK for an address of a container.
func (z *zone) pointer(addr netip.Addr, now time.Time) (name string, ok bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.refresh(now)
	for _, d := range z.dirs {
		if e := d.addrs[addr]; e != nil {
			return e.names[0] + d.suffix, true
		}
	}
	return "", false
}

// scan compares a directory with what is known of it and loads what differs.
func (d *directory) scan(now time.Time) {
	info, err := os.Stat(d.path)
	if err != nil {
		d.clear()
		return
	}
	if d.files != nil && d.watch < 0 && info.ModTime().Equal(d.changed) && d.scanned.Sub(d.changed) > settled {
		return
	}
	d.changed, d.scanned = info.ModTime(), now
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return
	}
	if d.files == nil {
		d.files, d.names, d.addrs = make(map[string]*entry), make(map[string][]*entry), make(map[netip.Addr]*entry)
	}
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if attachment.IsFile(e.Name()) {
			seen[e.Name()] = true
			d.load(e.Name(), now)
		}
	}
	for name := range d.files {
		if !seen[name] {
			d.forget(name)
		}
	}
}

// load takes in one file, whose old version is forgotten. A file that is gone
// or cannot be understood has no names.
func (d *directory) load(file string, now time.Time) {
	path := filepath.Join(d.path, file)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		d.forget(file)
		return
	}
	s := stampOf(info)
	if e := d.files[file]; e != nil && e.stamp == s && e.read.Sub(s.changed) > settled {
		return
	}
	d.forget(file)
	a, err := attachment.Load(path)
	if err != nil {
		return
	}
	e := &entry{stamp: s, read: now}
	for _, n := range a.Names {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if appendName(nil, n) != nil && !slices.Contains(e.names, n) {
			e.names = append(e.names, n)
		}
	}
	if len(e.names) == 0 {
		return
	}
	for _, p := range a.Addresses {
		e.addrs = append(e.addrs, p.Addr().Unmap().WithZone(""))
	}
	d.files[file] = e
	for _, n := range e.names {
		d.names[n] = append(d.names[n], e)
	}
	for _, a := range e.addrs {
		d.addrs[a] = e
	}
}

func (d *directory) forget(file string) {
	e := d.files[file]
	if e == nil {
		return
	}
	delete(d.files, file)
	for _, n := range e.names {
		list := slices.DeleteFunc(d.names[n], func(o *entry) bool { return o == e })
		if len(list) == 0 {
			delete(d.names, n)
		} else {
			d.names[n] = list
		}
	}
	for _, a := range e.addrs {
		if d.addrs[a] == e {
			delete(d.addrs, a)
		}
	}
}

func (d *directory) clear() {
	d.files, d.names, d.addrs = nil, nil, nil
	d.changed = time.Time{}
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{changed: info.ModTime(), size: info.Size(), inode: inode(info)}
}
