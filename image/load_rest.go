package image

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// rest adds what an index of the archive has besides the image that was
// chosen: the other platforms, attestations. So the whole of it can be pushed
// or saved again. What the archive has only in part is left out.
func (sh *shelf) rest(f *found, entries []ocispec.Descriptor, depth int, seen map[*staged]bool) {
	if depth > maxNesting {
		return
	}
	for _, e := range entries {
		st := sh.byDigest[e.Digest]
		if st == nil || seen[st] {
			continue
		}
		seen[st] = true // an index may list another many times over
		data, err := sh.read(st)
		if err != nil {
			continue
		}
		inner, isIndex, err := store.ParseIndex(data)
		switch {
		case err != nil:
		case isIndex:
			f.extra = append(f.extra, st)
			sh.rest(f, inner, depth+1, seen)
		default:
			if files := sh.filesOf(data); files != nil {
				f.extra = append(append(f.extra, st), files...)
			}
		}
	}
}

// filesOf are config and layers of a manifest, nil unless all are there.
func (sh *shelf) filesOf(data []byte) []*staged {
	var m ocispec.Manifest
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	var files []*staged
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if foreign(d) {
			continue
		}
		st, err := sh.blob(d)
		if err != nil {
			return nil
		}
		files = append(files, st)
	}
	return files
}
