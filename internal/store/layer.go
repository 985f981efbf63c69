package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/proc"
)

// LayerMeta is what is known about an unpacked layer besides its tree.
type LayerMeta struct {
	Version int           `json:"version"`
	Diff    digest.Digest `json:"diffID"`
	// Parent is the chain id below, empty for the lowest layer.
	Parent string `json:"parent,omitempty"`
	// Size is the sum of the sizes of regular files, each hard link once.
	Size int64 `json:"size"`
}

const layerVersion = 1

func (s *Store) layerPath(chain string) string { return s.path("layers", chain) }
func (s *Store) layerLock(chain string) string { return s.path("layers", ".lock", chain) }

// LayerDir is the tree of an unpacked layer, whether it is there or not. What
// lies in it came from an image: nothing may follow its symlinks.
func (s *Store) LayerDir(chain string) string { return s.path("layers", chain, "diff") }

// Layer reads what is known about an unpacked layer. The bool is false when
// there is none, or when it was never synced before the machine went down:
// then its content cannot be trusted, and Unpack makes it again.
func (s *Store) Layer(chain string) (LayerMeta, bool, error) {
	var m LayerMeta
	if !isHex(chain) {
		return m, false, fault.Invalid("layer %q: want 64 lower-case hex digits", chain)
	}
	data, err := os.ReadFile(s.path("layers", chain, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fault.Opaque(err)
	}
	state, err := s.pending(chain)
	if err != nil || state == pendingStale {
		return m, false, err // also when the layer's meta is torn
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, false, fault.Opaque(fmt.Errorf("layer %s is damaged: %w; remove the image and pull it again", chain, err))
	}
	if m.Version > layerVersion {
		return m, false, fault.Unsupported("layer %s has version %d, this program reads up to %d: update it", chain, m.Version, layerVersion)
	}
	return m, true, nil
}

// MissingLayers returns those chain ids that must be unpacked before use.
func (s *Store) MissingLayers(chains []string) ([]string, error) {
	var missing []string
	for _, c := range chains {
		if _, ok, err := s.Layer(c); err != nil {
			return nil, err
		} else if !ok {
			missing = append(missing, c)
		}
	}
	return missing, nil
}

type pendingState int

const (
	pendingNot   pendingState = iota // synced
	pendingNow                       // of this boot: the page cache has it
	pendingStale                     // of another boot
)

func (s *Store) pending(chain string) (pendingState, error) {
	data, err := os.ReadFile(s.path("layers", chain, "pending"))
	if errors.Is(err, fs.ErrNotExist) {
		return pendingNot, nil
	}
	if err != nil {
		return pendingNot, fault.Opaque(err)
	}
	boot, err := proc.BootID()
	if err != nil {
		return pendingNot, fault.Opaque(err)
	}
	if strings.TrimSpace(string(data)) == boot {
		return pendingNow, nil
	}
	return pendingStale, nil
}

// discardLayer is called with the layer's lock held.
func (s *Store) discardLayer(chain string) error {
	to := s.path("trash", randomID())
	if err := os.Rename(s.layerPath(chain), to); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return s.trouble(err)
	}
	return s.trouble(removeTree(to))
}

// publishLayer gives the working directory dir its place, with the mark that
// it is not synced. The layer's lock is held.
func (s *Store) publishLayer(dir, chain string, m LayerMeta) error {
	m.Version = layerVersion
	boot, err := proc.BootID()
	if err != nil {
		return s.trouble(err)
	}
	if err := os.WriteFile(dir+"/pending", []byte(boot+"\n"), 0o600); err != nil {
		return s.trouble(err)
	}
	if err := atomicfile.WriteJSON(dir+"/meta.json", m, 0o600, false); err != nil {
		return s.trouble(err)
	}
	return s.trouble(os.Rename(dir, s.layerPath(chain)))
}

// SyncLayers makes the layers survive power loss and takes their marks away.
// It goes on in the background, see Wait.
func (s *Store) SyncLayers(chains []string) {
	// The directories are held open: a mark is taken only from the very layer
	// that was there before the sync.
	var roots []*os.Root
	for _, c := range chains {
		if state, err := s.pending(c); err != nil || state != pendingNow {
			continue
		}
		if r, err := os.OpenRoot(s.layerPath(c)); err == nil {
			roots = append(roots, r)
		}
	}
	if len(roots) == 0 {
		return
	}
	s.background.Go(func() {
		err := syncTree(s.path("layers"))
		for _, r := range roots {
			if err == nil {
				r.Remove("pending")
			}
			r.Close()
		}
		if err != nil {
			s.logger().Warn("store: new layers not synced yet", "err", err)
		}
	})
}
