package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/layers"
)

// LayerMeta is what is known about an unpacked layer besides its tree.
type LayerMeta struct {
	Version int `json:"version"`
	// Diff is the digest of the layer's plain tar, and Tar the size of that in
	// bytes. Both are empty for a layer that a build made, until DiffID is asked;
	// Tar also if an older version unpacked the layer.
	Diff digest.Digest `json:"diffID,omitempty"`
	Tar  int64         `json:"tarSize,omitempty"`
	// Parent is the chain id below, empty for the lowest layer of an image and
	// for layers that no image has under this name.
	Parent string `json:"parent,omitempty"`
	// Same is the name of the layer whose files this one shares: its own "diff"
	// is a symbolic link. A layer that is shared has files of its own.
	Same string `json:"same,omitempty"`
	// Size is the sum of the sizes of regular files, each hard link once.
	Size int64 `json:"size"`
	// Disk is what the files take up on disk, in bytes; 0: not measured.
	Disk int64 `json:"disk,omitempty"`
}

const layerVersion = 1

func (s *Store) layerPath(chain string) string { return s.path("layers", chain) }
func (s *Store) layerLock(chain string) string { return s.path("layers", ".lock", chain) }

// LayerDir is the tree of an unpacked layer, whether it is there or not. What
// lies in it came from an image: nothing may follow its symlinks.
func (s *Store) LayerDir(chain string) string { return layers.Tree(s.root, chain) }

// Lowers are the trees of layers given from bottom to top: the topmost first
// and each once, as an overlay takes them. The caller has leased the layers and
// knows that they are there.
func (s *Store) Lowers(names []string) ([]string, error) {
	for _, n := range names {
		if !isHex(n) {
			return nil, badLayer(n)
		}
	}
	return layers.Trees(s.root, names), nil
}

func badLayer(name string) error {
	return fault.Invalid("layer %q: want 64 lower-case hex digits", name)
}

// Layer reads what is known about an unpacked layer. The bool is false when
// there is none, or when it was never synced before the machine went down:
// then its content cannot be trusted, and Unpack makes it again.
func (s *Store) Layer(chain string) (LayerMeta, bool, error) {
	m, _, ok, err := s.layer(chain)
	if err != nil || !ok {
		return m, false, err
	}
	if m.Same != "" {
		// Its files are another's, which has files of its own.
		_, _, ok, err = s.layer(m.Same)
		return m, ok, err
	}
	if m.Diff == "" || m.Tar == 0 {
		s.recall(chain, &m)
	}
	return m, true, nil
}

// layer is Layer without a look at what stands elsewhere.
func (s *Store) layer(chain string) (LayerMeta, pendingState, bool, error) {
	var m LayerMeta
	if !isHex(chain) {
		return m, pendingNot, false, badLayer(chain)
	}
	data, err := os.ReadFile(s.path("layers", chain, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, pendingNot, false, nil
	}
	if err != nil {
		return m, pendingNot, false, fault.Opaque(err)
	}
	state, err := s.pending(chain)
	if err != nil || state == pendingStale {
		return m, state, false, err // also when the layer's meta is torn
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, state, false, fault.Opaque(fmt.Errorf("layer %s is damaged: %w; remove the image and pull it again", chain, err))
	}
	if m.Version > layerVersion {
		return m, state, false, fault.Unsupported("layer %s has version %d, this program reads up to %d: update it", chain, m.Version, layerVersion)
	}
	return m, state, true, nil
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
	if err := s.MarkPending(dir, ""); err != nil {
		return err
	}
	if err := atomicfile.WriteJSON(dir+"/meta.json", m, 0o600, false); err != nil {
		return s.trouble(err)
	}
	return s.trouble(os.Rename(dir, s.layerPath(chain)))
}
