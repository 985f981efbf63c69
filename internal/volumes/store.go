package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
)

// version is the major version of record.json. Newer ones are refused.
const version = 1

// Store is the volumes of one Root. It holds nothing; any number of processes
// may work on one Root. It is safe for concurrent use.
type Store struct{ root *record.Root }

// Open returns the volumes of a Root. It does no I/O.
func Open(root *record.Root) *Store { return &Store{root} }

// Volume is record.json: a snapshot, never changed after it was written.
type Volume struct {
	Version   int               `json:"version"`
	Seq       uint64            `json:"seq"`
	Name      string            `json:"name"`
	Created   time.Time         `json:"created"`
	Driver    string            `json:"driver"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`

	// Problem says why the record cannot be read; then only Name and Anonymous
	// are set, and all that can be done is to remove the volume.
	Problem string `json:"-"`

	data string
}

// Source is the directory to mount: the volume's own, or the one that it was
// bound to by its options.
func (v *Volume) Source() string {
	if device, _, ok := v.Bound(); ok {
		return device
	}
	return v.data
}

// Bound says to which directory of the host the volume is bound by its
// options, and whether mounts below it are part of the volume.
func (v *Volume) Bound() (device string, recursive, ok bool) {
	if v.Options["device"] == "" {
		return "", false, false
	}
	return v.Options["device"], hasWord(v.Options["o"], "rbind"), true
}

// Fillable says whether CopyUp may fill the volume: a directory that belongs
// to somebody else is left as it is.
func (v *Volume) Fillable() bool { return v.Options["device"] == "" }

// event makes a volume's event with the attributes Docker gives it, and the
// labels.
func (v *Volume) event(action string) journal.Event {
	attrs := map[string]string{}
	for k, val := range v.Labels {
		attrs[k] = val
	}
	attrs["driver"] = v.Driver
	return journal.Event{Type: "volume", Action: action, ID: v.Name, Attributes: attrs}
}

func (s *Store) dir() string { return filepath.Join(s.root.Dir, "volumes") }

func (s *Store) path(name string, file ...string) string {
	return filepath.Join(append([]string{s.dir(), name}, file...)...)
}

// Path is the directory that holds the content of a volume, whether or not
// there is such a volume. The name is valid.
func (s *Store) Path(name string) string { return s.path(name, "data") }

// read returns a volume's record, with fs.ErrNotExist if there is none (also
// when removal was decided), ErrUnsupported if a newer program wrote it, and
// errDamaged if nobody can read it.
func (s *Store) read(name string) (*Volume, error) {
	file := s.path(name, "record.json")
	b, err := os.ReadFile(file)
	if err == nil {
		_, err = os.Lstat(s.path(name, "removing"))
		if err == nil {
			return nil, absent()
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent()
	}
	if err != nil {
		return nil, trouble("read the volume's record", err)
	}
	v := &Volume{data: s.Path(name)}
	if err := json.Unmarshal(b, v); err != nil || v.Name != name || v.Version < 1 {
		if err == nil {
			err = errors.New("its content is not that of this volume")
		}
		return nil, fault.Kind(errDamaged, "%s is damaged: %w; the data is in %s: save it and remove the volume", file, fault.Opaque(err), s.Path(name))
	}
	if v.Version > version {
		return nil, fault.Unsupported("%s has format version %d, this program knows up to %d: update the program", file, v.Version, version)
	}
	return v, nil
}

var errDamaged = errors.New("damaged")

// damaged stands for a volume whose record cannot be read.
func (s *Store) damaged(name string, err error) *Volume {
	return &Volume{Name: name, Driver: localDriver, Anonymous: isID(name), Problem: err.Error(), data: s.Path(name)}
}

func absent() error { return fault.NotExist("no such volume") }

// trouble wraps a failure of the store's own directory.
func trouble(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrPermission) {
		return fault.Privilege("%s: %w; run as root or choose directories you may write (Options.Root, Options.State)", doing, err)
	}
	return fault.Opaque(fmt.Errorf("%s: %w", doing, err))
}

// lock takes a volume's lock and finishes what a killed process left. With
// make the directory is made; without, a missing one is fs.ErrNotExist. There
// may be no record when it returns.
func (s *Store) lock(ctx context.Context, name string, make bool) (*flock.Lock, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if make {
			if err := s.mkdir(name); err != nil {
				return nil, err
			}
		}
		l, err := flock.Acquire(ctx, s.path(name, "lock"), flock.Exclusive)
		if errors.Is(err, fs.ErrNotExist) {
			if make {
				continue // it was removed since
			}
			return nil, absent()
		}
		if err != nil {
			return nil, trouble("lock the volume", err)
		}
		gone, err := s.settle(ctx, name)
		if err == nil && !gone {
			return l, nil
		}
		l.Release()
		if err != nil {
			return nil, err
		}
		if !make {
			return nil, absent()
		}
	}
}

func (s *Store) mkdir(name string) error {
	err := os.Mkdir(s.path(name), 0o711)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.dir(), 0o700); err != nil {
			return trouble("make the directory of volumes", err)
		}
		err = os.Mkdir(s.path(name), 0o711)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return trouble("make the volume's directory", err)
	}
	return nil
}
