package build

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
)

// layoutImage finds an image in a directory with an OCI layout: by digest, by
// tag, or as the only one there.
func layoutImage(dir, ref string) (digest.Digest, error) {
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return "", fault.Invalid("%s is no OCI image layout: %w", dir, fault.Opaque(err))
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return "", fault.Invalid("%s is no OCI image layout: %s: %w", dir, ocispec.ImageIndexFile, err)
	}
	if ref == "" && len(index.Manifests) == 1 {
		return index.Manifests[0].Digest, nil
	}
	var names []string
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		full := m.Annotations["io.containerd.image.name"] // docker save's
		if ref != "" && (ref == string(m.Digest) || ref == name || ref == full) {
			return m.Digest, nil
		}
		names = append(names, fmt.Sprintf("%s (%s)", m.Digest, name))
	}
	if ref == "" {
		return "", fault.Invalid("the layout %s has %d images, say which one: %v", dir, len(names), names)
	}
	return "", fault.Invalid("the layout %s has no image %s but %v", dir, ref, names)
}
