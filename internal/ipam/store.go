package ipam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/step"
)

// Store is a directory of leases. It is safe for concurrent use, in any number
// of processes.
type Store struct {
	dir  string
	busy chan struct{} // taken before a network's file lock, which is polled for: callers of one process need not poll
}

// Open is the store in dir, which is made when first needed.
func Open(dir string) *Store { return &Store{dir: dir, busy: make(chan struct{}, 1)} }

// Key is an attachment: one interface of one container.
type Key struct{ ID, IfName string }

func (k Key) String() string { return k.ID + "/" + k.IfName }

// content is what a lease file of k holds.
func (k Key) content() []byte { return []byte(k.ID + "\r\n" + k.IfName) }

// ErrAttached says that the attachment has leases of this network already. It
// Is fs.ErrExist.
var ErrAttached = fmt.Errorf("is attached to this network already: %w", fs.ErrExist)

const (
	indexDir   = ".index" // no network's name begins with a dot
	lockFile   = "lock"
	lastPrefix = "last_reserved_ip."
)

func (s *Store) leases(network string) string { return filepath.Join(s.dir, network) }
func (s *Store) index(network string) string  { return filepath.Join(s.dir, indexDir, network) }

// indexFile is named with a colon, which neither ids nor interfaces can have.
func (s *Store) indexFile(network string, k Key) string {
	return filepath.Join(s.index(network), k.ID+":"+k.IfName)
}

// lock makes the directories of a network and takes its lock.
func (s *Store) lock(ctx context.Context, network string) (unlock func(), err error) {
	if network == "" || strings.HasPrefix(network, ".") || strings.ContainsAny(network, "/\x00") {
		return nil, fault.Invalid("%q is no name for a network", network)
	}
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		if err != nil {
			<-s.busy
		}
	}()
	path := filepath.Join(s.leases(network), lockFile)
	for {
		l, err := flock.Acquire(ctx, path, flock.Exclusive)
		if err == nil {
			return func() { l.Release(); <-s.busy }, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lock the leases of %s: %w", network, fault.Opaque(err))
		}
		for _, dir := range []string{s.leases(network), s.index(network)} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, fmt.Errorf("make a place for the leases of %s: %w", network, fault.Opaque(err))
			}
		}
	}
}

func addressFile(dir string, a netip.Addr) string { return filepath.Join(dir, a.String()) }

// holder says who has a. Empty lease files are removed on the way: the lock is
// held, so nobody is about to fill them.
func (s *Store) holder(network string, a netip.Addr) (who Key, taken bool, err error) {
	path := addressFile(s.leases(network), a)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, false, nil
	}
	if err != nil {
		return Key{}, false, fault.Opaque(err)
	}
	if info.Size() == 0 {
		return Key{}, false, fault.Opaque(os.Remove(path))
	}
	who, err = readLease(path)
	return who, true, fault.Opaque(err)
}

// readLease reads who holds an address. Old host-locals wrote the id alone.
func readLease(path string) (Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	id, ifname, _ := strings.Cut(string(bytes.TrimSpace(data)), "\n")
	return Key{ID: strings.TrimSpace(id), IfName: strings.TrimSpace(ifname)}, nil
}

// record writes the index, then the leases. The caller holds the lock and has
// seen that the addresses are free.
func (s *Store) record(network string, k Key, addresses []netip.Addr) error {
	var list strings.Builder
	for _, a := range addresses {
		list.WriteString(a.String() + "\n")
	}
	// The index directory can be missing where host-local alone was at work.
	err := atomicfile.Write(s.indexFile(network, k), []byte(list.String()), 0o600, false)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.index(network), 0o700); err == nil {
			err = atomicfile.Write(s.indexFile(network, k), []byte(list.String()), 0o600, false)
		}
	}
	if err != nil {
		return fault.Opaque(err)
	}
	step.At("ipam.add.indexed")
	temp, err := s.temp(network, k)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	for _, a := range addresses {
		if err := os.Link(temp, addressFile(s.leases(network), a)); err != nil {
			return fault.Opaque(err)
		}
		step.At("ipam.add.leased")
	}
	return nil
}

// temp writes a lease beside the index, where host-local does not look.
func (s *Store) temp(network string, k Key) (string, error) {
	f, err := os.CreateTemp(s.index(network), ".tmp-")
	if err != nil {
		return "", fault.Opaque(err)
	}
	_, err = f.Write(k.content())
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", fault.Opaque(err)
	}
	return f.Name(), nil
}

// Held returns the addresses that an attachment has.
func (s *Store) Held(ctx context.Context, network string, k Key) ([]netip.Addr, error) {
	if _, err := os.Stat(s.leases(network)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unlock, err := s.lock(ctx, network)
	if err != nil {
		return nil, err
	}
	defer unlock()
	held, _, err := s.held(network, k)
	return held, err
}

// held reads the index, and believes it as far as the leases agree. Without an
// index file all leases are searched: host-local writes none.
func (s *Store) held(network string, k Key) (held []netip.Addr, indexed bool, err error) {
	data, err := os.ReadFile(s.indexFile(network, k))
	if errors.Is(err, fs.ErrNotExist) {
		err = s.each(network, func(a netip.Addr, who Key) error {
			if who == k || who.IfName == "" && who.ID == k.ID && who.ID != "" {
				held = append(held, a)
			}
			return nil
		})
		return held, false, err
	}
	if err != nil {
		return nil, false, fault.Opaque(err)
	}
	for _, text := range strings.Fields(string(data)) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue // damaged: GC finds what is missing here
		}
		if who, taken, err := s.holder(network, a); err != nil {
			return nil, true, err
		} else if taken && who == k {
			held = append(held, a)
		}
	}
	return held, true, nil
}

// Release gives back what an attachment has; nothing is no error.
func (s *Store) Release(ctx context.Context, network string, k Key) error {
	if _, err := os.Stat(s.leases(network)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.lock(ctx, network)
	if err != nil {
		return err
	}
	defer unlock()
	held, indexed, err := s.held(network, k)
	if err != nil {
		return err
	}
	for _, a := range held {
		if err := remove(addressFile(s.leases(network), a)); err != nil {
			return err
		}
		step.At("ipam.del.released")
	}
	if !indexed {
		return nil
	}
	return remove(s.indexFile(network, k))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
}
