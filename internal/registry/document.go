package registry

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// document is what a manifest or index says.
type document struct {
	ocispec.Descriptor // of itself, with what the referrers API tells of it
	index              bool
	blobs              []ocispec.Descriptor // config and layers that a registry has
	manifests          []ocispec.Descriptor
	subject            digest.Digest
}

// parse reads a manifest that is stored, or about to be.
func parse(data []byte) (*document, error) {
	var m struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		ArtifactType  string               `json:"artifactType"`
		Config        *ocispec.Descriptor  `json:"config"`
		Layers        []ocispec.Descriptor `json:"layers"`
		Subject       *ocispec.Descriptor  `json:"subject"`
		Annotations   map[string]string    `json:"annotations"`
	}
	entries, index, err := store.ParseIndex(data)
	if err != nil {
		return nil, errManifest.because(err.Error())
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errManifest.because("the manifest is not valid JSON")
	}
	d := &document{index: index, manifests: entries, Descriptor: ocispec.Descriptor{
		MediaType: store.MediaType(data), Digest: digest.FromBytes(data), Size: int64(len(data)),
		ArtifactType: m.ArtifactType, Annotations: m.Annotations}}
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, store.DockerIndex:
	case ocispec.MediaTypeImageManifest, store.DockerManifest:
		if m.Config == nil {
			return nil, errManifest.because("the manifest has no config")
		}
		for _, b := range append([]ocispec.Descriptor{*m.Config}, m.Layers...) {
			if !foreign(b) {
				d.blobs = append(d.blobs, b)
			}
		}
		if d.ArtifactType == "" {
			d.ArtifactType = m.Config.MediaType
		}
	default:
		return nil, errManifest.because("manifests of media type " + d.MediaType + " are not supported")
	}
	if m.Subject != nil {
		d.subject = m.Subject.Digest
	}
	return d, d.check(m.SchemaVersion)
}

func (d *document) check(schema int) error {
	if schema != 2 {
		return errManifest.because("the manifest's schemaVersion is not 2")
	}
	all := append(append([]ocispec.Descriptor{}, d.blobs...), d.manifests...)
	if d.subject != "" {
		all = append(all, ocispec.Descriptor{Digest: d.subject})
	}
	for _, e := range all {
		if err := store.CheckDigest(e.Digest); err != nil {
			return errManifest.because(err.Error())
		}
		if e.Size < 0 {
			return errManifest.because("a size is negative")
		}
	}
	return nil
}

// foreign layers come from where their descriptor says.
func foreign(d ocispec.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable."))
}

// maxCost bounds what is kept of documents, by the bytes they were read from.
const maxCost = 64 << 20

// document returns what a digest says, nil when it is not here or cannot be
// read. Documents never change, so they are parsed once.
func (g *Registry) document(d digest.Digest) *document {
	g.mu.Lock()
	doc := g.documents[d]
	g.mu.Unlock()
	if doc != nil {
		if _, ok := g.store.HasBlob(d); ok {
			return doc
		}
		return nil
	}
	data, err := g.store.ReadBlob(d)
	if err != nil {
		return nil
	}
	if doc, err = parse(data); err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cost += doc.Size; g.cost > maxCost {
		clear(g.documents)
		g.cost = doc.Size
	}
	g.documents[d] = doc
	return doc
}
