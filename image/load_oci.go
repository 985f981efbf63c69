package image

import (
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// annotationName is where containerd and BuildKit put an image's full name.
const annotationName = "io.containerd.image.name"

// layout reads the images of an OCI layout.
func (sh *shelf) layout(opts *LoadOptions, want ocispec.Platform) ([]*found, error) {
	f, err := sh.file("index.json")
	if err != nil {
		return nil, err
	}
	data, err := sh.read(f)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fault.Invalid("index.json is damaged: %w", err)
	}
	tops, err := sh.tops(index.Manifests, want)
	if err != nil {
		return nil, err
	}
	var out []*found
	for _, d := range tops {
		f, err := sh.layoutImage(d, opts, want)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, fault.Invalid("index.json lists no image")
	}
	return out, sh.namesFromDocker(out)
}

// tops are the entries of index.json that are images of their own. An index
// whose entries have no names, but platforms, is one image for several.
func (sh *shelf) tops(entries []ocispec.Descriptor, want ocispec.Platform) ([]ocispec.Descriptor, error) {
	var named, nameless []ocispec.Descriptor
	for _, d := range entries {
		switch {
		case store.IsAttestation(d) || !isManifestType(d.MediaType) && !isIndexType(d.MediaType):
		case d.Annotations[annotationName] != "" || d.Annotations[ocispec.AnnotationRefName] != "":
			named = append(named, d)
		default:
			nameless = append(nameless, d)
		}
	}
	several := len(nameless) > 1
	for _, d := range nameless {
		several = several && d.Platform != nil && isManifestType(d.MediaType)
	}
	if several && len(named) == 0 {
		best, err := choose(nameless, want)
		return []ocispec.Descriptor{best}, err
	}
	return append(named, nameless...), nil
}

func (sh *shelf) layoutImage(d ocispec.Descriptor, opts *LoadOptions, want ocispec.Platform) (*found, error) {
	f := &found{target: d.Digest}
	data, err := sh.descend(f, d, want, 0)
	if err != nil {
		return nil, err
	}
	if top, err := sh.readBlob(d); err == nil && opts.Platform == "" {
		if entries, isIndex, err := store.ParseIndex(top); err == nil && isIndex {
			sh.rest(f, entries, 0, map[*staged]bool{})
		}
	}
	img, config, err := store.ParseManifest(data)
	if err != nil {
		return nil, err
	}
	f.img = img
	c, err := sh.readBlob(*config)
	if err != nil {
		return nil, err
	}
	f.documents = append(f.documents, c)
	if err := img.SetConfig(c); err != nil {
		return nil, err
	}
	for _, l := range img.Layers {
		file, err := sh.blob(l.Blob)
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, file)
	}
	if err := f.nameByAnnotations(d, opts); err != nil {
		return nil, err
	}
	return f, sh.complete(f, opts, want)
}

// descend goes through indexes to the manifest of the platform.
func (sh *shelf) descend(f *found, d ocispec.Descriptor, want ocispec.Platform, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, fault.Invalid("indexes are nested more than %d deep", maxNesting)
	}
	data, err := sh.readBlob(d)
	if err != nil {
		return nil, err
	}
	f.documents = append(f.documents, data)
	entries, isIndex, err := store.ParseIndex(data)
	if err != nil || !isIndex {
		return data, err
	}
	next, err := sh.choosePresent(entries, want)
	if err != nil {
		return nil, err
	}
	return sh.descend(f, next, want, depth+1)
}

// choosePresent picks the platform's entry among those whose manifest is in
// the archive: `docker save` of one platform keeps the index of all.
func (sh *shelf) choosePresent(entries []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	var present []ocispec.Descriptor
	for _, e := range entries {
		if sh.byDigest[e.Digest] == nil || store.IsAttestation(e) {
			continue
		}
		if isIndexType(e.MediaType) && e.Platform == nil {
			return e, nil
		}
		if isIndexType(e.MediaType) {
			e.MediaType = ocispec.MediaTypeImageManifest // descend sees what it is
		}
		present = append(present, e)
	}
	if len(present) == 0 {
		return ocispec.Descriptor{}, fault.Invalid("the archive lacks all %d manifests of its index", len(entries))
	}
	return choose(present, want)
}

// nameByAnnotations takes the name from the entry of index.json.
func (f *found) nameByAnnotations(d ocispec.Descriptor, opts *LoadOptions) error {
	if full := d.Annotations[annotationName]; full != "" {
		return f.name([]string{full})
	}
	switch ref := d.Annotations[ocispec.AnnotationRefName]; {
	case ref == "":
		return nil
	case strings.ContainsAny(ref, "/:@"): // a full name, as Podman and Skopeo write it
		return f.name([]string{ref})
	case opts.Name == "":
		return nil // a tag without a repository is no name
	default:
		base, err := parseRef(opts.Name)
		if err != nil {
			return err
		}
		return f.name([]string{base.Name() + ":" + ref})
	}
}

// namesFromDocker looks up names that only manifest.json has.
func (sh *shelf) namesFromDocker(images []*found) error {
	if !sh.has("manifest.json") {
		return nil
	}
	entries, err := sh.dockerEntries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		config, err := sh.file(e.Config)
		if err != nil {
			continue // the layout decides what is there
		}
		for _, f := range images {
			if f.img.ID == config.digest && len(f.names) == 0 {
				if err := f.name(e.RepoTags); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
