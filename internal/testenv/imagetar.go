package testenv

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive collects the files of an image tar, each once.
type archive struct {
	files []File
	have  map[string]bool
}

func (a *archive) add(f File) {
	if a.have == nil {
		a.have = map[string]bool{}
	}
	if !a.have[f.Name] {
		a.have[f.Name] = true
		a.files = append(a.files, f)
	}
}

func (a *archive) blob(d digest.Digest, data []byte) string {
	name := "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
	a.add(File{Name: "blobs/"})
	a.add(File{Name: "blobs/" + d.Algorithm().String() + "/"})
	a.add(File{Name: name, Data: data})
	return name
}

// dockerManifest is one element of manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func tags(ref string) []string {
	if ref == "" {
		return nil
	}
	return []string{ref}
}

// DockerArchive is what `docker save` wrote before Docker 25: a directory for
// each layer with VERSION, json and layer.tar, a layer that stands twice as a
// symbolic link to the first, manifest.json and repositories.
func DockerArchive(t testing.TB, images ...Image) []byte {
	t.Helper()
	var a archive
	var manifests []dockerManifest
	repositories := map[string]map[string]string{}
	first := map[digest.Digest]string{} // diff id -> path of its layer.tar
	for _, i := range images {
		b := i.Build(t)
		m := dockerManifest{Config: b.ID.Encoded() + ".json", RepoTags: tags(i.Ref)}
		parent := ""
		for n, plain := range b.plain {
			id := digest.FromString(fmt.Sprint(parent, b.DiffIDs[n])).Encoded()
			name := id + "/layer.tar"
			a.add(File{Name: id + "/"})
			a.add(File{Name: id + "/VERSION", Data: []byte("1.0")})
			a.add(File{Name: id + "/json", Data: mustJSON(t, map[string]string{"id": id, "parent": parent})})
			if old := first[b.DiffIDs[n]]; old != "" && old != name {
				a.add(File{Name: name, Type: tar.TypeSymlink, Link: "../" + old})
			} else {
				a.add(File{Name: name, Data: plain})
				first[b.DiffIDs[n]] = name
			}
			m.Layers, parent = append(m.Layers, name), id
		}
		a.add(File{Name: m.Config, Data: b.config.data})
		manifests = append(manifests, m)
		if colon := strings.LastIndexByte(i.Ref, ':'); colon > 0 {
			repo := i.Ref[:colon]
			if repositories[repo] == nil {
				repositories[repo] = map[string]string{}
			}
			repositories[repo][i.Ref[colon+1:]] = parent
		}
	}
	a.add(File{Name: "manifest.json", Data: mustJSON(t, manifests)})
	a.add(File{Name: "repositories", Data: mustJSON(t, repositories)})
	return Tar(t, a.files)
}

// DockerArchive25 is what `docker save` writes since Docker 25: an OCI layout
// with uncompressed layers and, beside index.json, a manifest.json that names
// the same blobs.
func DockerArchive25(t testing.TB, images ...Image) []byte {
	t.Helper()
	var a archive
	var manifests []dockerManifest
	var list []v1.Descriptor
	for _, i := range images {
		i.Compress = "none"
		b := i.Build(t)
		list = append(list, a.image(b))
		m := dockerManifest{Config: a.blob(b.ID, b.config.data), RepoTags: tags(i.Ref)}
		for _, l := range b.layers {
			m.Layers = append(m.Layers, a.blob(l.Digest, l.data))
		}
		manifests = append(manifests, m)
	}
	a.layout(t, list)
	a.add(File{Name: "manifest.json", Data: mustJSON(t, manifests)})
	return Tar(t, a.files)
}

// OCILayout is an OCI image layout as a tar. Images with an equal Ref and
// different platforms go under one nested index.
func OCILayout(t testing.TB, images ...Image) []byte {
	t.Helper()
	var a archive
	var list []v1.Descriptor
	byRef := map[string][]v1.Descriptor{}
	var order []string
	for _, i := range images {
		if len(byRef[i.Ref]) == 0 {
			order = append(order, i.Ref)
		}
		byRef[i.Ref] = append(byRef[i.Ref], a.image(i.Build(t)))
	}
	for _, ref := range order {
		found := byRef[ref]
		if len(found) == 1 {
			list = append(list, found[0])
			continue
		}
		for n := range found {
			found[n].Annotations = nil
		}
		index := newIndex(t, found)
		a.blob(index.Digest, index.data)
		index.Annotations = refAnnotations(ref)
		list = append(list, index.Descriptor)
	}
	a.layout(t, list)
	return Tar(t, a.files)
}

// image adds the blobs of an image and describes its manifest.
func (a *archive) image(b *Built) v1.Descriptor {
	a.blob(b.manifest.Digest, b.manifest.data)
	a.blob(b.config.Digest, b.config.data)
	for _, l := range b.layers {
		a.blob(l.Digest, l.data)
	}
	d := b.manifest.Descriptor
	d.Platform = &b.platform
	d.Annotations = refAnnotations(b.ref)
	return d
}

// refAnnotations name an image: Docker writes the whole reference in one and
// the tag in the other.
func refAnnotations(ref string) map[string]string {
	if ref == "" {
		return nil
	}
	return map[string]string{"io.containerd.image.name": ref, v1.AnnotationRefName: ref[strings.LastIndexByte(ref, ':')+1:]}
}

func (a *archive) layout(t testing.TB, list []v1.Descriptor) {
	t.Helper()
	a.add(File{Name: v1.ImageLayoutFile, Data: mustJSON(t, v1.ImageLayout{Version: v1.ImageLayoutVersion})})
	a.add(File{Name: v1.ImageIndexFile, Data: newIndex(t, list).data})
}

func newIndex(t testing.TB, list []v1.Descriptor) blob {
	t.Helper()
	return newBlob(v1.MediaTypeImageIndex, mustJSON(t, v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: list,
	}))
}
