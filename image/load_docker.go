package image

import (
	"encoding/json"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// images finds out what the archive holds. An archive of a new Docker is both
// an OCI layout and of the old format: the layout has the registry's digests,
// the old list may have names that the layout lacks.
func (sh *shelf) images(opts *LoadOptions, want ocispec.Platform) ([]*found, error) {
	switch {
	case sh.has("index.json"):
		return sh.layout(opts, want)
	case sh.has("manifest.json"):
		return sh.docker(opts, want)
	case sh.has("repositories"):
		return nil, fault.Unsupported("the archive was made by a Docker before 1.10 (2016); load it there and save it again with a newer one")
	}
	return nil, fault.Invalid("the archive has neither manifest.json (docker save) nor index.json (OCI layout); for the tar of a root filesystem use Import")
}

// dockerEntry is an image in manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (sh *shelf) dockerEntries() ([]dockerEntry, error) {
	f, err := sh.file("manifest.json")
	if err != nil {
		return nil, err
	}
	data, err := sh.read(f)
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fault.Invalid("manifest.json is damaged: %w", err)
	}
	return entries, nil
}

func (sh *shelf) docker(opts *LoadOptions, want ocispec.Platform) ([]*found, error) {
	entries, err := sh.dockerEntries()
	if err != nil {
		return nil, err
	}
	var out []*found
	for _, e := range entries {
		f, err := sh.dockerImage(e)
		if err != nil {
			return nil, err
		}
		if err := sh.complete(f, opts, want); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, fault.Invalid("manifest.json lists no image")
	}
	return out, nil
}

// dockerImage makes the manifest that the old format does without.
func (sh *shelf) dockerImage(e dockerEntry) (*found, error) {
	if len(e.Layers) > store.MaxLayers {
		return nil, fault.Invalid("the image has %d layers, %d are possible", len(e.Layers), store.MaxLayers)
	}
	config, err := sh.file(e.Config)
	if err != nil {
		return nil, err
	}
	data, err := sh.read(config)
	if err != nil {
		return nil, err
	}
	// The file's name is the image id that `docker save` promises.
	if id := digest.Digest("sha256:" + trimJSON(path.Base(clean(e.Config)))); store.CheckDigest(id) == nil && id != config.digest {
		return nil, fault.Invalid("config %s has content %s", e.Config, config.digest)
	}
	f := &found{}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config.digest, Size: config.size}}
	for _, name := range e.Layers {
		layer, err := sh.file(name)
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, layer)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerType(layer.head), Digest: layer.digest, Size: layer.size})
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	f.documents = [][]byte{data, manifest}
	if f.img, _, err = store.ParseManifest(manifest); err != nil {
		return nil, err
	}
	f.target = f.img.Manifest
	if err := f.img.SetConfig(data); err != nil {
		return nil, err
	}
	return f, f.name(e.RepoTags)
}

func trimJSON(s string) string {
	if ext := path.Ext(s); ext == ".json" {
		return s[:len(s)-len(ext)]
	}
	return s
}

// name adds names of the archive.
func (f *found) name(tags []string) error {
	for _, t := range tags {
		ref, err := ParseRef(t)
		if err != nil {
			return err
		}
		if ref = ref.stored(); !slices.Contains(f.names, ref) {
			f.names = append(f.names, ref)
		}
	}
	return nil
}

// complete checks platform and layers of an image that was put together.
func (sh *shelf) complete(f *found, opts *LoadOptions, want ocispec.Platform) error {
	config, err := parseConfig(f.img.Config)
	if err != nil {
		return fault.Invalid("config %s: %w", f.img.ID, err)
	}
	have := config.Image.Platform
	f.platform = formatPlatform(have)
	if opts.Platform != "" && matches(want, have) < 0 {
		return noPlatform(want, []string{f.platform})
	}
	// A plain layer is its own diff id: no need to wait for the unpacking.
	for i, l := range f.img.Layers {
		if layerType(f.files[i].head) == ocispec.MediaTypeImageLayer && isPlain(f.files[i].head) && l.Blob.Digest != l.Diff {
			return fault.Invalid("layer %d of %d has content %s, but the image's config says %s", i+1, len(f.img.Layers), l.Blob.Digest, l.Diff)
		}
	}
	return nil
}

func isPlain(head []byte) bool { return len(head) < 3 || string(head[:3]) != "BZh" }
