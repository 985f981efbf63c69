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

	BuildCache int64 `json:"buildCache,omitempty"` // what the cache of builds may take up on disk, in bytes; 0: any
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
