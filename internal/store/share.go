package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/layers"
	"github.com/amphora-go/amphora/internal/step"
)

// tarOf is the file "tar.json" of a layer: what is known of its plain tar since
// somebody asked. It is not synced, since it can be made again.
type tarOf struct {
	Version int           `json:"version"`
	Diff    digest.Digest `json:"diffID"`
	Size    int64         `json:"size"`
}

// recall completes m from what DiffID wrote down. A torn file says nothing.
func (s *Store) recall(name string, m *LayerMeta) {
	data, err := os.ReadFile(filepath.Join(s.layerPath(name), "tar.json"))
	var t tarOf
	if err != nil || json.Unmarshal(data, &t) != nil || t.Version != layerVersion || t.Size <= 0 || CheckDigest(t.Diff) != nil {
		return
	}
	if m.Diff == "" || m.Diff == t.Diff {
		m.Diff, m.Tar = t.Diff, t.Size
	}
}

// DiffID returns the digest of a layer's plain tar, and the size of that in
// bytes. For a layer that a build made it is the archive that archive.Create
// makes of it, so that whoever pushes or saves an image can make the same one
// again; it is made once and remembered. For a layer that came with an image it
// is what that says: such an archive can often not be made again, so an image
// that takes the layer over refers to the blob as that image does.
func (s *Store) DiffID(ctx context.Context, layer string) (digest.Digest, int64, error) {
	name := layers.Target(s.root, layer)
	for locked := false; ; locked = true {
		// A name of the layer knows as much as the layer itself.
		for _, n := range []string{layer, name} {
			m, ok, err := s.Layer(n)
			if err != nil {
				return "", 0, err
			}
			if !ok {
				return "", 0, fmt.Errorf("layer %s: %w", layer, ErrNoLayer)
			}
			if m.Diff != "" && m.Tar > 0 {
				return m.Diff, m.Tar, nil
			}
		}
		if locked {
			break
		}
		lock, err := flock.Acquire(ctx, s.layerLock(name), flock.Exclusive)
		if err != nil {
			return "", 0, s.lockTrouble(ctx, err)
		}
		defer lock.Release()
	}
	return s.sumLayer(ctx, name)
}

// sumLayer is called with the layer's lock held.
func (s *Store) sumLayer(ctx context.Context, name string) (digest.Digest, int64, error) {
	m, _, err := s.Layer(name)
	if err != nil {
		return "", 0, err
	}
	sum := &summed{hash: sha256.New()}
	err = archive.Create(ctx, sum, s.LayerDir(name), &archive.CreateOptions{Overlay: true})
	if err != nil {
		return "", 0, err
	}
	t := tarOf{Version: layerVersion, Diff: fromSum(sum.hash.Sum(nil)), Size: sum.n}
	if m.Diff != "" && m.Diff != t.Diff {
		return "", 0, fmt.Errorf("layer %s: %w: the size of its archive %s is not known, and its unpacked files give another one; remove the image and pull it again", name, ErrMissing, m.Diff)
	}
	step.At("diffid.summed")
	err = atomicfile.WriteJSON(filepath.Join(s.layerPath(name), "tar.json"), t, 0o600, false)
	return t.Diff, t.Size, s.trouble(err)
}

// Share gives a layer the name that it has in an image, on top of parentChain,
// which is empty for the lowest layer. Nothing is copied: the new name refers to
// the files of the layer, and keeps them. Both names are leased. A layer that
// has the name already, or one with the same content, is taken as it is. The new
// name is not synced: whoever shares several layers calls SyncedLayers for all.
func (s *Store) Share(ctx context.Context, l *Lease, layer, parentChain string) (chain string, err error) {
	if parentChain != "" && !isHex(parentChain) {
		return "", badLayer(parentChain)
	}
	diff, size, err := s.DiffID(ctx, layer)
	if err != nil {
		return "", err
	}
	if chain = encoded(diff); parentChain != "" {
		chain = encoded(digestOf([]byte("sha256:" + parentChain + " " + string(diff))))
	}
	target := layers.Target(s.root, layer)
	if err := l.AddLayers(ctx, chain, target); err != nil {
		return "", err
	}
	if chain == layer || chain == target {
		return chain, nil
	}
	lock, err := flock.Acquire(ctx, s.layerLock(chain), flock.Exclusive)
	if err != nil {
		return "", s.lockTrouble(ctx, err)
	}
	defer lock.Release()
	if _, ok, err := s.Layer(chain); err != nil || ok {
		return chain, err
	}
	m, ok, err := s.Layer(target)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("layer %s: %w", layer, ErrNoLayer)
	}
	if err := s.discardLayer(chain); err != nil {
		return "", err
	}
	m = LayerMeta{Diff: diff, Tar: size, Parent: parentChain, Same: target, Size: m.Size, Disk: m.Disk}
	if err := s.link(l, chain, m); err != nil {
		return "", err
	}
	step.At("share.renamed")
	return chain, nil
}

// link publishes a layer without files of its own. Its lock is held.
func (s *Store) link(l *Lease, chain string, m LayerMeta) error {
	work, err := l.Dir()
	if err != nil {
		return err
	}
	dir := filepath.Join(work, randomID())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return s.trouble(err)
	}
	if err := os.Symlink(layers.Link(m.Same), filepath.Join(dir, "diff")); err != nil {
		return s.trouble(err)
	}
	step.At("share.linked")
	return s.publishLayer(dir, chain, m)
}

// ErrNoLayer says that a layer that was to be used is not in the store, or
// cannot be trusted after the machine lost power. It is not fs.ErrNotExist: the
// object that the caller works on exists.
var ErrNoLayer = errors.New("layer is not in the store")
