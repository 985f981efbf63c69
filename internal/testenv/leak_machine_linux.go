package testenv

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/amphora-go/amphora/internal/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// machine is what a test run can leave outside its own process. It lists only
// what is known to be ours, so a run is not blamed for another one's objects.
type machine struct {
	processes map[int]string // descendants of this process
	mounts    []mountPoint
	cgroups   []string
	links     []string
	tables    []string
	files     []string
}

func seeMachine(dir string) machine {
	ids := append(rootIDs(dir), readIDs(dir)...)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return machine{
		processes: descendants(os.Getpid()),
		mounts:    ourMounts(append([]string{dir + "/"}, ids...)),
		cgroups:   ourCgroups(ids),
		links:     ourLinks(ids),
		tables:    ourTables(ids),
		files:     filesLeft(dir),
	}
}

func readIDs(dir string) []string {
	data, _ := os.ReadFile(filepath.Join(dir, idsFile))
	return strings.Fields(string(data))
}

// descendants maps the live processes below pid to a description.
func descendants(pid int) map[int]string {
	children := map[int][]int{}
	states := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		data, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue
		}
		text := string(data)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		child, _ := strconv.Atoi(filepath.Base(d))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
		states[child] = fields[0]
	}
	found := map[int]string{}
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		queue = append(queue, children[p]...)
		if states[p] == "Z" && len(children[p]) == 0 {
			continue // dead: whoever is its parent has not asked yet
		}
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p))
		cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p))
		first, _, _ := strings.Cut(string(cgroup), "\n")
		found[p] = fmt.Sprintf("%s %q state %s cgroup %s", strings.TrimSpace(string(comm)),
			strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " ")), states[p], first)
	}
	return found
}

// mountPoint is one line of mountinfo.
type mountPoint struct{ id, target, line string }

func mounts() []mountPoint {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var all []mountPoint
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 {
			all = append(all, mountPoint{id: f[0], target: unescape.Replace(f[4]), line: unescape.Replace(strings.TrimSpace(line))})
		}
	}
	return all
}

// ourMounts are those that name one of the marks anywhere: as mount point, as
// source of a bind or as a layer of an overlay.
func ourMounts(marks []string) []mountPoint {
	return slices.DeleteFunc(mounts(), func(m mountPoint) bool {
		return !slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(m.line, mark) })
	})
}

func mountsBelow(dir string) []string {
	var below []string
	for _, m := range mounts() {
		if m.target == dir || strings.HasPrefix(m.target, dir+"/") {
			below = append(below, m.line)
		}
	}
	return below
}

// ourCgroups are the directories of all hierarchies whose name has one of the
// ids, without those below one already listed.
func ourCgroups(ids []string) []string {
	if len(ids) == 0 {
		return nil
	}
	var all []string
	for _, m := range mounts() {
		_, kind, _ := strings.Cut(m.line, " - ")
		if !strings.HasPrefix(kind, "cgroup") {
			continue
		}
		filepath.WalkDir(m.target, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // it may go away while we look
			}
			if slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(d.Name(), id) }) {
				if !removeIdle(path) {
					all = append(all, path)
				}
				return fs.SkipDir
			}
			return nil
		})
	}
	return all
}

// removeIdle removes a Root's own group and that of its supervisors, which
// stay empty as long as the Root does; the Roots of tests are gone. It fails
// while a container's group or a process is in them.
func removeIdle(group string) bool {
	syscall.Rmdir(filepath.Join(group, "shims"))
	return syscall.Rmdir(group) == nil
}

// ourTables drops the packet filters of Roots that publish nothing any more,
// which stay like the bridges as long as the Root does, and lists the others.
func ourTables(ids []string) []string {
	var ours []string
	for _, id := range ids {
		table := nft.New(id)
		owners, err := table.Owners()
		if err == nil && len(owners) == 0 {
			err = table.Drop()
		}
		if err != nil {
			ours = append(ours, fmt.Sprintf("%s: %v", table.Name, err))
		}
		for o := range owners {
			ours = append(ours, table.Name+" publishes ports of "+o)
		}
	}
	return ours
}

// removeIdleBridge removes a Root's bridge, which stays as long as the Root
// does. It fails while anything is connected to it.
func removeIdleBridge(name string) bool {
	link, err := netlink.LinkByName(name)
	if err != nil || link.Type() != "bridge" {
		return err != nil // its Root was faster
	}
	ports, err := os.ReadDir("/sys/class/net/" + name + "/brif")
	return err == nil && len(ports) == 0 && netlink.LinkDel(link) == nil
}

// ourLinks are network links of this namespace that carry the first four
// digits of an id after "amp", have one of these as master, or name an id in
// their alias.
func ourLinks(ids []string) []string {
	all, _ := net.Interfaces()
	var ours []string
	for _, l := range all {
		master, _ := os.Readlink("/sys/class/net/" + l.Name + "/master")
		alias, _ := os.ReadFile("/sys/class/net/" + l.Name + "/ifalias")
		for _, id := range ids {
			// Four digits are soon somebody else's too: what says whose it is counts.
			bridge := "amp" + id[:4]
			mine := strings.Contains(string(alias), id)
			if !strings.HasPrefix(string(alias), "amphora ") {
				mine = mine || strings.HasPrefix(l.Name, bridge) || strings.HasPrefix(filepath.Base(master), bridge)
			}
			if mine {
				if !removeIdleBridge(l.Name) {
					ours = append(ours, l.Name)
				}
				break
			}
		}
	}
	return ours
}

// filesLeft lists what is left in the directory of the run.
func filesLeft(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ownPrefix) {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	return left
}

func (before machine) leaks(after machine) []string {
	var leaks []string
	for pid, what := range after.processes {
		if _, old := before.processes[pid]; !old {
			leaks = append(leaks, fmt.Sprintf("process %d: %s", pid, what))
		}
	}
	for _, m := range after.mounts {
		if !slices.Contains(before.mounts, m) {
			leaks = append(leaks, "mount: "+m.line)
		}
	}
	for _, c := range after.cgroups {
		leaks = append(leaks, "cgroup: "+c)
	}
	for _, l := range after.links {
		if !slices.Contains(before.links, l) {
			leaks = append(leaks, "network link: "+l)
		}
	}
	for _, t := range after.tables {
		leaks = append(leaks, "packet filter: "+t)
	}
	for _, f := range after.files {
		leaks = append(leaks, "temporary file: "+f)
	}
	slices.Sort(leaks)
	return leaks
}

// remove takes away what leaked, so that one bad run does not spoil the next.
// It is best effort: the run has failed already.
func (after machine) remove(before machine) {
	for range 100 {
		left := 0
		for pid := range descendants(os.Getpid()) {
			if _, old := before.processes[pid]; !old {
				syscall.Kill(pid, syscall.SIGKILL)
				left++
			}
		}
		reap(syscall.WNOHANG, 0)
		if left == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, m := range slices.Backward(after.mounts) {
		if !slices.Contains(before.mounts, m) {
			unix.Unmount(m.target, unix.MNT_DETACH)
		}
	}
	for _, c := range after.cgroups {
		removeCgroup(c)
	}
	for _, l := range after.links {
		if !slices.Contains(before.links, l) {
			exec.Command("ip", "link", "del", l).Run()
		}
	}
}

// removeCgroup removes a cgroup and those below it, the deepest first.
func removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	syscall.Rmdir(dir)
}
