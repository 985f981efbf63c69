package record

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// Settings are what programs on one Root must agree on.
type Settings struct {
	Pools     []Pool   `json:"pools,omitempty"`     // where subnets are chosen from; empty: the default
	Plugins   []string `json:"plugins,omitempty"`   // directories of CNI plugins that are not built in; empty: the usual ones
	Conflists []string `json:"conflists,omitempty"` // directories with networks that other tools made
	Images    Images   `json:"images,omitzero"`     // how images are kept, and which are trusted

	BuildCache int64 `json:"buildCache,omitempty"` // what the cache of builds may take up on disk, in bytes; 0: any
}

// Images are the settings of package image, which documents them.
type Images struct {
	MaxBytes  int64       `json:"maxBytes,omitempty"`
	DropBlobs bool        `json:"dropBlobs,omitempty"`
	Trust     []TrustRule `json:"trust,omitempty"`
}

// TrustRule says what images of a registry, or a part of it, need to be pulled.
type TrustRule struct {
	Scope   string   `json:"scope,omitempty"`
	Require string   `json:"require"`
	Keys    []string `json:"keys,omitempty"` // PEM
}

// Pool is cut into subnets with prefixes of Size bits.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// Settings reads them.
func (r *Root) Settings() (Settings, error) {
	e, err := r.engine()
	return e.Settings, fault.Opaque(err)
}

// SettingsOf reads the settings of a Root that need not be open, nor exist.
func SettingsOf(dir string) (Settings, error) {
	e, err := (&Root{Dir: dir}).engine()
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, nil
	}
	return e.Settings, fault.Opaque(err)
}

// Configure changes the settings, and returns what they are now. An error of
// change leaves them as they are.
func (r *Root) Configure(ctx context.Context, change func(*Settings) error) (Settings, error) {
	l, err := flock.Acquire(ctx, filepath.Join(r.Dir, "engine.lock"), flock.Exclusive)
	if err != nil {
		return Settings{}, storeError("lock the store", err)
	}
	defer l.Release()
	e, err := r.engine()
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, fault.Opaque(err)
	}
	if err != nil {
		return Settings{}, err
	}
	if err := change(&e.Settings); err != nil {
		return Settings{}, err
	}
	if err := atomicfile.WriteJSON(r.enginePath(), e, 0o600, true); err != nil {
		return Settings{}, storeError("write the store's engine.json", err)
	}
	return e.Settings, nil
}
