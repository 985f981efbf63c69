package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

// ContainerUse is what a container's record says about its image.
type ContainerUse struct {
	ID       string        // the container's
	ImageID  digest.Digest // of the config
	Manifest digest.Digest
	Layers   []string // chain ids
}

// containerVersion is the newest format of container records whose use of
// layers this program understands.
const containerVersion = 1

// ContainerUses reads all containers' records. One that cannot be understood
// is an error: collecting garbage without it could take a layer away.
func (s *Store) ContainerUses() ([]ContainerUse, error) {
	entries, err := os.ReadDir(s.path("containers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	var uses []ContainerUse
	for _, e := range entries {
		// A change that was cut short may still be completed: both count.
		for _, file := range []string{"record.json", "record.json.next"} {
			use, err := s.containerUse(e.Name(), file)
			if err != nil {
				return nil, err
			}
			if use != nil {
				uses = append(uses, *use)
			}
		}
	}
	return uses, nil
}

func (s *Store) containerUse(id, file string) (*ContainerUse, error) {
	data, err := os.ReadFile(s.path("containers", id, file))
	if errors.Is(err, fs.ErrNotExist) || err != nil && isNotDir(err) {
		return nil, nil // being made (its lease counts) or being removed
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	var r struct {
		Version  int           `json:"version"`
		ImageID  digest.Digest `json:"imageID"`
		Manifest digest.Digest `json:"manifest"`
		Layers   []string      `json:"layers"`
		Mounted  []string      `json:"mountLayers"` // of images that it mounts
	}
	if err := json.Unmarshal(data, &r); err != nil {
		if file != "record.json" {
			return nil, nil // torn: it will be dropped
		}
		return nil, fault.Opaque(fmt.Errorf("record of container %s is damaged: %w; remove the container", id, err))
	}
	if r.Version > containerVersion {
		return nil, fault.Unsupported("record of container %s has version %d, this program reads up to %d: update it", id, r.Version, containerVersion)
	}
	return &ContainerUse{ID: id, ImageID: r.ImageID, Manifest: r.Manifest, Layers: append(r.Layers, r.Mounted...)}, nil
}
