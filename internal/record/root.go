// Package record keeps what is known of containers on disk: ids, names,
// locks, versions and the state that follows from them.
//
// A container is a directory Root/containers/<id>:
//
//	lock          flock: whoever changes record.json or removes the container
//	alive         flock: held by the shim, or by the starter or recoverer before it
//	record.json   identity and settings (Container), carries its last event's number
//	config.json   compiled OCI configuration and the rest a shim needs (Config)
//	spec.json     the caller's Spec, word for word
//	run.json      the last start (Run); its number is above exit.json's while running
//	exit.json     the last exit (Exit)
//	upper/ work/  the writable layer;  log*  output;  hosts hostname resolv.conf
//
// Lock order: lock, alive, image name, chain id, GC. Nobody waits for an
// earlier one while holding a later one.
package record

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/proc"
)

// Version is the major version of every file this package writes. Files of a
// newer major are refused; unknown fields of this one are kept.
const Version = 1

// Root is an open store directory. It is safe for concurrent use.
type Root struct {
	Dir   string // absolute
	State string // absolute
	ID    string // 8 hex digits, random, of this Root
	Log   *journal.Journal
}

// Engine is Root/engine.json: what programs that share a Root must agree on.
type Engine struct {
	Version  int      `json:"version"`
	ID       string   `json:"id"`
	Stamp    Stamp    `json:"stamp"`
	Settings Settings `json:"settings,omitzero"`
}

// Stamp ties a Root to the boot, State directory and namespaces in which its
// containers run.
type Stamp struct {
	Boot     string `json:"boot"`
	State    string `json:"state"`
	StateID  string `json:"stateID"` // dev:inode:token
	PidNS    uint64 `json:"pidNS"`
	NetNS    uint64 `json:"netNS"`
	Hostname string `json:"-"`
}

// OpenRoot opens or makes a store. Unless boot, State or namespaces changed it
// reads one small file.
func OpenRoot(ctx context.Context, dir, state string) (*Root, error) {
	r := &Root{Dir: dir, State: state, Log: journal.Open(filepath.Join(dir, "journal"))}
	if err := r.refuseOtherState(); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, r.Containers(), state, filepath.Join(state, "s"), filepath.Join(state, "run")} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, storeError("make the store", err)
		}
	}
	now, err := r.stamp()
	if err != nil {
		return nil, storeError("read the State directory", err)
	}
	eng, err := r.engine()
	if err == nil && eng.Stamp == now {
		r.ID = eng.ID
		return r, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, storeError("read the store", err)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return r, r.restamp(ctx, now)
}

// refuseOtherState looks before anything is made in a State that is not the
// one in use.
func (r *Root) refuseOtherState() error {
	e, err := r.engine()
	if err != nil || e.Stamp.State == r.State {
		return nil // what is wrong with it is found under the lock
	}
	now := e.Stamp
	if now.Boot, err = proc.BootID(); err != nil || now.Boot != e.Stamp.Boot {
		return nil
	}
	now.State = r.State
	return r.refuseMove(e.Stamp, now)
}

// storeError says what to do about the failures of a store's own directory
// that users meet.
func storeError(doing string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fault.Privilege("%s: %w; run as root or choose directories you may write (Options.Root, Options.State)", doing, err)
	}
	return fault.Opaque(fmt.Errorf("%s: %w", doing, err))
}

func (r *Root) enginePath() string { return filepath.Join(r.Dir, "engine.json") }

func (r *Root) engine() (Engine, error) {
	var e Engine
	b, err := os.ReadFile(r.enginePath())
	if err != nil {
		return e, err
	}
	if err := decode(r.enginePath(), b, &e); err != nil {
		return e, err
	}
	return e, nil
}

func (r *Root) stamp() (Stamp, error) {
	boot, err := proc.BootID()
	if err != nil {
		return Stamp{}, err
	}
	id, err := r.stateID()
	if err != nil {
		return Stamp{}, err
	}
	s := Stamp{Boot: boot, State: r.State, StateID: id}
	if s.PidNS, err = proc.NamespaceInode("pid"); err != nil {
		return Stamp{}, err
	}
	s.NetNS, err = proc.NamespaceInode("net")
	return s, err
}

// stateID tells a State directory from another made later at the same path.
// Its inode alone does not: the next directory often gets the same number. So
// the file "id" in it holds a random token, which a link puts there whole.
func (r *Root) stateID() (string, error) {
	dir, err := fileID(r.State)
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.State, "id")
	token, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := r.newToken(path); err != nil {
			return "", err
		}
		token, err = os.ReadFile(path)
	}
	return dir + ":" + string(token), err
}

func (r *Root) newToken(path string) error {
	f, err := os.CreateTemp(r.State, ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	var b [8]byte
	rand.Read(b[:])
	_, err = f.WriteString(hex.EncodeToString(b[:]))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil // another process was first
}

// restamp makes engine.json, or moves it to another boot, State or namespace,
// which is refused while any container lives under the old one.
func (r *Root) restamp(ctx context.Context, now Stamp) error {
	l, err := flock.Acquire(ctx, filepath.Join(r.Dir, "engine.lock"), flock.Exclusive)
	if err != nil {
		return storeError("lock the store", err)
	}
	defer l.Release()
	e, err := r.engine()
	switch {
	case errors.Is(err, os.ErrNotExist):
		var b [4]byte
		rand.Read(b[:])
		e = Engine{Version: Version, ID: hex.EncodeToString(b[:])}
	case err != nil:
		return err
	case e.Stamp == now: // another process was first
		r.ID = e.ID
		return nil
	case e.Stamp.Boot == now.Boot:
		if err := r.refuseMove(e.Stamp, now); err != nil {
			return err
		}
	}
	if e.Stamp.Boot != now.Boot {
		// Leases and attachments of an earlier boot, whose namespaces are gone:
		// State may lie on a disk that keeps them.
		if err := os.RemoveAll(filepath.Join(r.State, "net")); err != nil {
			return storeError("forget the networks of an earlier boot", err)
		}
	}
	e.Stamp = now
	r.ID = e.ID
	if err := atomicfile.WriteJSON(r.enginePath(), e, 0o600, true); err != nil {
		return storeError("write the store's engine.json", err)
	}
	return nil
}

func (r *Root) refuseMove(was, now Stamp) error {
	ids, err := r.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		held, err := flock.Held(r.alive(id))
		if err != nil {
			return fault.Opaque(err)
		}
		if !held {
			continue
		}
		what := "another pid or network namespace"
		if was.State != now.State {
			what = fmt.Sprintf("State %s", was.State)
		} else if was.StateID != now.StateID {
			what = fmt.Sprintf("a State directory that was since replaced (%s)", was.State)
		}
		return fault.Kind(fault.ErrInUse, "the store %s is in use with %s: container %s runs there; open it the same way, or stop that container first",
			r.Dir, what, Short(id))
	}
	return nil
}

// Containers is the directory of all containers.
func (r *Root) Containers() string { return filepath.Join(r.Dir, "containers") }

// Path joins names to a container's directory.
func (r *Root) Path(id string, name ...string) string {
	return filepath.Join(append([]string{r.Containers(), id}, name...)...)
}

// Layers are the directories of layers, which are given by their names from
// bottom to top: the topmost first and each once, as an overlay takes them.
func (r *Root) Layers(chains []string) []string {
	return layers.Trees(r.Dir, chains)
}

func (r *Root) alive(id string) string { return r.Path(id, "alive") }

// Socket is where the container's shim listens. AF_UNIX paths end at 107
// bytes: dial it through its directory's descriptor when it is longer.
func (r *Root) Socket(id string) string { return filepath.Join(r.State, "s", Short(id)) }

// RuntimeDir is the runtime's state directory for all containers.
func (r *Root) RuntimeDir() string { return filepath.Join(r.State, "run") }

// GroupLock keeps the Root's control group: held shared by whoever starts a
// container in it, exclusively by whoever removes it as idle.
func (r *Root) GroupLock() string { return filepath.Join(r.Dir, "cgroup.lock") }

// Short is the id as it is shown: its first 12 digits.
func Short(id string) string { return id[:min(12, len(id))] }

var ownPrefix = fmt.Appendf(nil, `{"version":%d,`, Version)

// decode reads a versioned JSON file, refusing newer majors by name.
func decode(path string, b []byte, v any) error {
	// What this version wrote begins so: a second pass over each file of a long
	// list is saved.
	if !bytes.HasPrefix(b, ownPrefix) {
		var head struct {
			Version int `json:"version"`
		}
		if err := json.Unmarshal(b, &head); err != nil {
			return fault.Opaque(fmt.Errorf("%s is damaged: %w", path, err))
		}
		if head.Version > Version {
			return fault.Unsupported("%s has format version %d, this program knows up to %d: update the program", path, head.Version, Version)
		}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.Opaque(fmt.Errorf("%s is damaged: %w", path, err))
	}
	return nil
}

// trashMu orders nothing on disk; it only keeps this process from emptying
// the trash twice at once.
var trashMu sync.Mutex

// Discard moves dir out of sight at once and deletes it after. A killed
// Discard leaves a rest in Root/trash that the next one deletes.
func (r *Root) Discard(dir string) (empty func() error, err error) {
	trash := filepath.Join(r.Dir, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return nil, fault.Opaque(err)
	}
	var b [8]byte
	rand.Read(b[:])
	if err := os.Rename(dir, filepath.Join(trash, hex.EncodeToString(b[:]))); err != nil {
		return nil, fault.Opaque(err)
	}
	return r.EmptyTrash, nil
}

// EmptyTrash deletes what was discarded.
func (r *Root) EmptyTrash() error {
	trashMu.Lock()
	defer trashMu.Unlock()
	trash := filepath.Join(r.Dir, "trash")
	entries, err := os.ReadDir(trash)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(trash, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault.Opaque(err)
		}
	}
	return fault.Opaque(err)
}
