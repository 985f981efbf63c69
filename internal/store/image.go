package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
)

// Media types of Docker's own formats, which registries still serve.
const (
	DockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex         = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig        = "application/vnd.docker.container.image.v1+json"
	DockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	DockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Layer is one layer of an image.
type Layer struct {
	Chain string        // chain id without "sha256:", the name of the unpacked layer
	Diff  digest.Digest // of the uncompressed tar
	Blob  ocispec.Descriptor
}

// Image is a manifest with its config, read and checked.
type Image struct {
	Manifest  digest.Digest
	MediaType string
	ID        digest.Digest // of the config
	Config    []byte
	Layers    []Layer // bottom to top
}

// Chains are the chain ids of the layers, bottom to top.
func (img *Image) Chains() []string {
	out := make([]string, len(img.Layers))
	for i, l := range img.Layers {
		out[i] = l.Chain
	}
	return out
}

// document is what manifests and indexes have in common.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	FSLayers      json.RawMessage      `json:"fsLayers"` // schema 1
}

func (d *document) isIndex() bool {
	return d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == DockerIndex ||
		d.MediaType == "" && d.Config == nil && d.Manifests != nil
}

func parseDocument(data []byte) (*document, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fault.Invalid("manifest is not valid JSON: %w", err)
	}
	if d.SchemaVersion == 1 || d.FSLayers != nil {
		return nil, fault.Unsupported("the manifest has Docker's schema 1, which registries gave up in 2019; push the image again with a tool of this decade")
	}
	if d.Manifests != nil && (d.Config != nil || d.Layers != nil) {
		return nil, fault.Invalid("the manifest is ambiguous: it lists both layers and other manifests")
	}
	return &d, nil
}

// ParseIndex returns the manifests that an index lists, or false when data is
// a single image's manifest.
func ParseIndex(data []byte) ([]ocispec.Descriptor, bool, error) {
	d, err := parseDocument(data)
	if err != nil || !d.isIndex() {
		return nil, false, err
	}
	return d.Manifests, true, nil
}

// MediaType is what a manifest or index says it is, or what it must be.
func MediaType(data []byte) string {
	d, err := parseDocument(data)
	switch {
	case err != nil:
		return ""
	case d.MediaType != "":
		return d.MediaType
	case d.isIndex():
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// MaxLayers bounds what a hostile manifest can make us allocate; overlay
// itself ends at 500 lower directories.
const MaxLayers = 500

// ParseManifest returns the config and layers that a manifest names. Layers
// have no diff ids yet: those stand in the config.
func ParseManifest(data []byte) (*Image, *ocispec.Descriptor, error) {
	d, err := parseDocument(data)
	if err != nil {
		return nil, nil, err
	}
	if d.isIndex() || d.Config == nil {
		return nil, nil, fault.Invalid("not the manifest of an image (media type %q)", d.MediaType)
	}
	switch d.Config.MediaType {
	case ocispec.MediaTypeImageConfig, DockerConfig, "":
	default:
		return nil, nil, fault.Invalid("an artifact of type %q, not a container image", d.Config.MediaType)
	}
	if len(d.Layers) > MaxLayers {
		return nil, nil, fault.Invalid("the manifest has %d layers; %d is the most that overlay can mount", len(d.Layers), MaxLayers)
	}
	img := &Image{Manifest: digestOf(data), MediaType: d.MediaType, ID: d.Config.Digest}
	if img.MediaType == "" {
		img.MediaType = ocispec.MediaTypeImageManifest
	}
	for _, l := range append([]ocispec.Descriptor{*d.Config}, d.Layers...) {
		if err := CheckDigest(l.Digest); err != nil {
			return nil, nil, err
		}
		if l.Size < 0 {
			return nil, nil, fault.Invalid("%s has the impossible size %d", l.Digest, l.Size)
		}
	}
	for _, l := range d.Layers {
		img.Layers = append(img.Layers, Layer{Blob: l})
	}
	return img, d.Config, nil
}

// SetConfig completes an image of ParseManifest.
func (img *Image) SetConfig(data []byte) error {
	if got := digestOf(data); got != img.ID {
		return fmt.Errorf("config %s: got content %s: %w", img.ID, got, ErrDigest)
	}
	var c struct {
		RootFS struct {
			Type    string          `json:"type"`
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fault.Invalid("config %s is not valid JSON: %w", img.ID, err)
	}
	if c.RootFS.Type != "" && c.RootFS.Type != "layers" {
		return fault.Unsupported("config %s: root filesystem of type %q, only \"layers\" is supported", img.ID, c.RootFS.Type)
	}
	if len(c.RootFS.DiffIDs) != len(img.Layers) {
		return fault.Invalid("config %s lists %d layers, its manifest %d", img.ID, len(c.RootFS.DiffIDs), len(img.Layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return err
		}
	}
	chains := ChainIDs(c.RootFS.DiffIDs)
	for i := range img.Layers {
		img.Layers[i].Diff, img.Layers[i].Chain = c.RootFS.DiffIDs[i], chains[i]
	}
	img.Config = slices.Clip(data)
	return nil
}

// Image reads an image by its manifest's digest.
func (s *Store) Image(manifest digest.Digest) (*Image, error) {
	data, err := s.ReadBlob(manifest)
	if err != nil {
		return nil, err
	}
	img, _, err := ParseManifest(data)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	config, err := s.ReadBlob(img.ID)
	if err != nil {
		return nil, err
	}
	return img, fault.Opaque(img.SetConfig(config))
}

// IsAttestation reports whether an index entry describes another entry
// (provenance, SBOM) and is no image. BuildKit marks them so.
func IsAttestation(d ocispec.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] != "" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && strings.HasPrefix(d.Platform.Architecture, "unknown")
}
