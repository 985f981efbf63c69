package amphora_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/internal/cgroup"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/record"
)

// truth checks that what an engine says of its containers is what there is, and
// that nothing is there that belongs to none of them. Operations that are still
// under way in other processes are waited for.
func (s *store) truth(t *testing.T, when string) {
	t.Helper()
	eng := s.open(t)
	defer eng.Close()
	eventually(t, when, func() []string { return s.faults(t.Context(), eng) })
}

func (s *store) faults(ctx context.Context, eng *amphora.Engine) (faults []string) {
	infos, err := eng.Containers().List(ctx, nil)
	if err != nil {
		return list(faults, "list: %v", err)
	}
	if _, err := eng.Recover(ctx); err != nil {
		return list(faults, "recover: %v", err)
	}
	root, err := record.OpenRoot(ctx, s.opts.Root, s.opts.State)
	if err != nil {
		return list(faults, "%v", err)
	}
	v := &view{root: root, byID: map[string]*container.Info{}, alive: map[string]int{}}
	for _, i := range infos {
		v.byID[i.ID] = i
		faults = append(faults, v.container(i)...)
	}
	faults = append(faults, v.directories()...)
	faults = append(faults, v.kernel()...)
	faults = append(faults, v.volumes(ctx, eng)...)
	faults = append(faults, v.networks(ctx, eng)...)
	return append(faults, v.events(ctx, eng)...)
}

// view is the store as found on disk and in the kernel.
type view struct {
	root  *record.Root
	byID  map[string]*container.Info
	alive map[string]int // id -> pid of the supervisor
}

func (v *view) container(i *container.Info) (faults []string) {
	short := record.Short(i.ID)
	held, err := flock.Held(v.root.Path(i.ID, "alive"))
	if err != nil {
		return list(faults, "%s: %v", short, err)
	}
	run, err := v.root.LoadRun(i.ID)
	if err != nil {
		return list(faults, "%s: %v", short, err)
	}
	if held != (run != nil) {
		faults = list(faults, "%s: alive is held: %v, run.json: %+v", short, held, run)
	}
	if held && run != nil {
		v.alive[i.ID] = run.Shim
	}
	if c, err := v.root.Load(i.ID); err != nil || c.Owner != nil && !running(c.Owner.Pid) {
		faults = list(faults, "%s is there without its owner (%v)", short, err)
	}
	switch i.Status {
	case container.Running, container.Paused:
		if !held || i.Pid == 0 || !running(i.Pid) {
			faults = list(faults, "%s is %s: alive %v, pid %d", short, i.Status, held, i.Pid)
		}
	case container.Created, container.Exited:
		if held {
			faults = list(faults, "%s is %s and has a supervisor", short, i.Status)
		}
	default:
		faults = list(faults, "%s is %s: %+v", short, i.Status, i.Exit)
	}
	if to, err := os.Readlink(filepath.Join(v.root.Dir, "names", i.Name)); to != i.ID {
		faults = list(faults, "%s: its name %q leads to %q (%v)", short, i.Name, to, err)
	}
	for _, pattern := range []string{"*.next", ".tmp-*"} {
		if left, _ := filepath.Glob(v.root.Path(i.ID, pattern)); len(left) > 0 {
			faults = list(faults, "left: %v", left)
		}
	}
	return faults
}

func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	i := strings.LastIndexByte(string(b), ')')
	return err == nil && len(b) > i+2 && b[i+2] != 'Z' && b[i+2] != 'X'
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{err.Error()}
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (v *view) directories() (faults []string) {
	for _, id := range names(v.root.Containers()) {
		if v.byID[id] == nil {
			faults = list(faults, "directory of no container: %s", id)
		}
	}
	for _, name := range names(filepath.Join(v.root.Dir, "names")) {
		id, err := os.Readlink(filepath.Join(v.root.Dir, "names", name))
		if i := v.byID[id]; err != nil || i == nil || i.Name != name {
			faults = list(faults, "name %s of no container: %s", name, id)
		}
	}
	if left := names(filepath.Join(v.root.Dir, "trash")); len(left) > 0 {
		faults = list(faults, "trash: %v", left)
	}
	short := map[string]bool{}
	for id := range v.alive {
		short[record.Short(id)] = true
	}
	for _, name := range names(filepath.Join(v.root.State, "s")) {
		if !short[name] {
			faults = list(faults, "socket of no running container: %s", name)
		}
	}
	for _, id := range names(v.root.RuntimeDir()) {
		if v.alive[id] == 0 {
			faults = list(faults, "runtime state of no running container: %s", id)
		}
	}
	return faults
}

var hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// kernel looks for control groups and processes of no running container.
func (v *view) kernel() (faults []string) {
	base, err := cgroup.Base("", v.root.ID)
	if err != nil {
		return list(faults, "%v", err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup" + base + "/*", "/sys/fs/cgroup/*" + base + "/*"} {
		found, _ := filepath.Glob(pattern)
		for _, group := range found {
			if id := filepath.Base(group); hexID.MatchString(id) && v.alive[id] == 0 {
				faults = list(faults, "control group of no running container: %s", group)
			}
		}
	}
	shims := slices.Collect(maps.Values(v.alive))
	for pid, path := range holders(v.root.Dir) {
		if pid != os.Getpid() && !slices.Contains(shims, pid) {
			faults = list(faults, "process %d holds %s", pid, path)
		}
	}
	return faults
}

// holders are the processes of this library, by their names, that have a file
// below dir open.
func holders(dir string) map[int]string {
	found := map[int]string{}
	for _, p := range names("/proc") {
		pid, err := strconv.Atoi(p)
		comm, _ := os.ReadFile("/proc/" + p + "/comm")
		if name := string(comm); err != nil || !strings.HasPrefix(name, "amphora") && !strings.HasPrefix(name, "exe") && !strings.HasPrefix(name, "runc:") {
			continue
		}
		for _, fd := range names("/proc/" + p + "/fd") {
			if to, err := os.Readlink("/proc/" + p + "/fd/" + fd); err == nil && strings.HasPrefix(to, dir+"/") {
				found[pid] = to
			}
		}
	}
	return found
}

func (v *view) volumes(ctx context.Context, eng *amphora.Engine) (faults []string) {
	used := map[string]bool{}
	for _, i := range v.byID {
		for _, use := range i.Volumes {
			used[use.Name] = true
		}
	}
	infos, err := eng.Volumes().List(ctx, nil)
	if err != nil {
		return list(faults, "%v", err)
	}
	known := map[string]bool{}
	for _, i := range infos {
		known[i.Name] = true
		if hexID.MatchString(i.Name) && !used[i.Name] {
			faults = list(faults, "anonymous volume of no container: %s", i.Name)
		}
	}
	for name := range used {
		if !known[name] {
			faults = list(faults, "volume %s is gone and used", name)
		}
	}
	return faults
}

// events must tell the story that ends in what the records say.
func (v *view) events(ctx context.Context, eng *amphora.Engine) (faults []string) {
	type story struct {
		last         uint64
		action, life string
	}
	stories := map[string]*story{}
	var seq uint64
	for ev, err := range eng.Events(ctx, nil) {
		if err != nil {
			return list(faults, "events: %v", err)
		}
		if seq > 0 && ev.Seq != seq+1 && ev.Seq < seq+1<<20 {
			faults = list(faults, "event %d follows %d", ev.Seq, seq)
		}
		seq = ev.Seq
		if ev.Type != "container" {
			continue
		}
		st := stories[ev.ID]
		if (st == nil) != (ev.Action == "create") || st != nil && st.action == "destroy" {
			faults = list(faults, "%s: event %d %s follows %+v", record.Short(ev.ID), ev.Seq, ev.Action, st)
		}
		if st == nil {
			st = &story{}
			stories[ev.ID] = st
		}
		switch ev.Action {
		case "start", "die":
			if ev.Action == st.life || ev.Action == "die" && st.life == "" {
				faults = list(faults, "%s: %s follows %q", record.Short(ev.ID), ev.Action, st.life)
			}
			st.life = ev.Action
		}
		st.last, st.action = ev.Seq, ev.Action
	}
	for id, st := range stories {
		i := v.byID[id]
		if (i == nil) != (st.action == "destroy") {
			faults = list(faults, "%s: in the store %v, last event %s", record.Short(id), i != nil, st.action)
		}
		if i != nil {
			faults = append(faults, v.agree(i, st.last, st.life)...)
		}
	}
	for id := range v.byID {
		if stories[id] == nil {
			faults = list(faults, "%s has no events", record.Short(id))
		}
	}
	return faults
}

func (v *view) agree(i *container.Info, last uint64, life string) (faults []string) {
	want := map[container.Status]string{container.Created: "", container.Running: "start", container.Paused: "start", container.Exited: "die"}
	if w, ok := want[i.Status]; ok && w != life {
		faults = list(faults, "%s is %s, the last of its life is %q", record.Short(i.ID), i.Status, life)
	}
	c, err := v.root.Load(i.ID)
	if err != nil {
		return list(faults, "%v", err)
	}
	seq := c.Seq
	if run, err := v.root.LoadRun(i.ID); err == nil && run != nil {
		seq = max(seq, run.Seq)
	}
	if exit, err := v.root.LoadExit(i.ID); err == nil && exit != nil {
		seq = max(seq, exit.Seq)
	}
	if seq != last {
		faults = list(faults, "%s: its records say %d, its last event is %d (%s, %s)", record.Short(i.ID), seq, last, i.Status, life)
	}
	return faults
}
