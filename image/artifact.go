package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// ArtifactFile is one file of an artifact.
type ArtifactFile struct {
	// Path is where the file lies, or was written by PullArtifact.
	Path string
	// Name is what it is called in the artifact. Default the last part of Path.
	Name string
	// MediaType says what it is. Default application/octet-stream.
	MediaType   string
	Annotations map[string]string
	Digest      string // filled in
	Size        int64  // filled in
}

// ArtifactOptions tune PushArtifact.
type ArtifactOptions struct {
	// Type is the artifact's type, a media type such as
	// "application/vnd.example.sbom.v1". It is required.
	Type        string
	Annotations map[string]string
	// Subject is a tag or digest in the same repository that the artifact is
	// about: it is listed by Referrers of that. With a Subject the name may go
	// without a tag.
	Subject string
	// Progress is told about each file. Calls do not overlap.
	Progress func(Progress)
	// StallTimeout is how long a connection may move no byte. 0: 30 seconds.
	StallTimeout time.Duration
}

// PushArtifact sends files to a registry as an OCI artifact, which needs no
// image and no place in the store. Blobs that the registry has are not sent
// again. Where it knows no referrers the list of those of Subject is kept under
// a tag, as the distribution specification has it.
//
// The error Is fs.ErrNotExist when a file or the subject does not exist.
func (s *Store) PushArtifact(ctx context.Context, name string, files []ArtifactFile, opts *ArtifactOptions) (*Pushed, error) {
	if opts == nil {
		opts = &ArtifactOptions{}
	}
	done, err := s.pushArtifact(ctx, name, files, opts)
	return done, fault.New("artifact push", name, err)
}

func (s *Store) pushArtifact(ctx context.Context, name string, files []ArtifactFile, opts *ArtifactOptions) (*Pushed, error) {
	ref, err := parseRef(name)
	switch {
	case err != nil:
		return nil, err
	case ref.Digest != "":
		return nil, fault.Invalid("an artifact gets its digest by what is in it: leave %q away", "@"+ref.Digest)
	case !strings.Contains(opts.Type, "/"):
		return nil, fault.Invalid("the artifact has no type: give a media type, such as application/vnd.example.sbom.v1")
	}
	bare := !strings.HasSuffix(name, ":"+ref.Tag)
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	p, err := s.newPusher(ctx, ref, l, &PushOptions{Progress: opts.Progress, StallTimeout: opts.StallTimeout})
	if err != nil {
		return nil, err
	}
	defer p.dst.wire.close()
	m := &ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: opts.Type, Config: ocispec.DescriptorEmptyJSON, Annotations: opts.Annotations}
	m.Config.Data = nil
	out := &outgoing{}
	if err := artifactContents(ctx, out, m, files); err != nil {
		return nil, err
	}
	if opts.Subject != "" {
		if m.Subject, err = p.subject(ctx, opts.Subject); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	doc := newDocument(data)
	if bare && m.Subject != nil {
		ref.Tag, ref.Digest = "", string(doc.digest)
	}
	if err := p.contents(ctx, out); err != nil {
		return nil, err
	}
	what := ref.Tag
	if ref.Digest != "" {
		what = ref.Digest
	}
	said, err := p.put(ctx, doc, what)
	if err != nil {
		return nil, err
	}
	if m.Subject != nil && said.Get("OCI-Subject") == "" {
		if err := p.listReferrer(ctx, m, doc); err != nil {
			return nil, err
		}
	}
	return &Pushed{Ref: ref, Digest: string(doc.digest), MediaType: doc.mediaType, Size: int64(len(data))}, nil
}

// artifactContents lists the blobs: the files, and the config that says nothing.
func artifactContents(ctx context.Context, out *outgoing, m *ocispec.Manifest, files []ArtifactFile) error {
	m.Layers = []ocispec.Descriptor{}
	names := map[string]bool{}
	for _, f := range files {
		d, err := f.describe(ctx)
		if err != nil {
			return err
		}
		if title := d.Annotations[ocispec.AnnotationTitle]; names[title] {
			return fault.Invalid("two files are called %q: give them names", title)
		} else {
			names[title] = true
		}
		m.Layers = append(m.Layers, d)
		out.addContent(&content{Descriptor: d, layer: true, open: func(context.Context) (blobFile, error) { return os.Open(f.Path) }})
	}
	if len(m.Layers) == 0 { // some registries insist on one
		m.Layers = append(m.Layers, m.Config)
	}
	out.addContent(&content{Descriptor: m.Config, open: func(context.Context) (blobFile, error) { return memoryBlob("{}"), nil }})
	return nil
}

func (f *ArtifactFile) describe(ctx context.Context) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: f.MediaType, Annotations: maps.Clone(f.Annotations)}
	if d.MediaType == "" {
		d.MediaType = "application/octet-stream"
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	name := f.Name
	if name == "" {
		name = filepath.Base(f.Path)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return d, fault.Invalid("a file of an artifact cannot be called %q: give a relative name", name)
	}
	d.Annotations[ocispec.AnnotationTitle] = filepath.ToSlash(name)
	file, err := os.Open(f.Path)
	if err != nil {
		return d, err
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return d, errors.Join(err, fault.Invalid("%s is no regular file", f.Path))
	}
	count := &counted{r: &patient{ctx, file}}
	if d.Digest, err = digest.FromReader(count); err != nil {
		return d, err
	}
	d.Size = count.n
	return d, nil
}

// subject finds what an artifact is about.
func (p *pusher) subject(ctx context.Context, what string) (*ocispec.Descriptor, error) {
	if !tagRE().MatchString(what) && store.CheckDigest(digest.Digest(what)) != nil {
		return nil, fault.Invalid("subject %q is neither a tag nor a digest", what)
	}
	var data []byte
	err := persist(ctx, func() (err error) {
		data, err = p.dst.manifest(ctx, what)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("subject %s: %w", what, err)
	}
	d := newDocument(data).descriptor()
	return &d, nil
}

// listReferrer adds an artifact to the list under the tag. The protocol knows
// no lock for it: of two that write at once one may be lost, so it is read back.
func (p *pusher) listReferrer(ctx context.Context, m *ocispec.Manifest, doc document) error {
	for range maxAttempts {
		list, err := p.dst.taggedReferrers(ctx, m.Subject.Digest)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == doc.digest }) {
			return nil
		}
		d := doc.descriptor()
		d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
		index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, d)})
		if err != nil {
			return err
		}
		if err := p.document(ctx, newDocument(index), referrersTag(m.Subject.Digest)); err != nil {
			return err
		}
	}
	return errors.New("the list of what refers to the subject is changed by others all the time: try again")
}

// PullArtifactOptions tune PullArtifact.
type PullArtifactOptions struct {
	// Overwrite replaces files that are there.
	Overwrite bool
	// Progress is told about each file. Calls do not overlap.
	Progress func(Progress)
	// StallTimeout is how long a connection may move no byte. 0: 30 seconds.
	StallTimeout time.Duration
}

// Artifact is what a registry has under a name, image or not.
type Artifact struct {
	Digest      string
	Type        string // its artifact type, or the media type of its config
	Annotations map[string]string
	Subject     string // digest of what it is about, "" for nothing
	Files       []ArtifactFile
}

// PullArtifact writes the files of an OCI artifact into a directory, which is
// made if need be: under their names, or their digests where they have none or
// one that leads out of the directory. What a broken connection left is gone on
// with, and every byte verified, as for images; trust is, too. A file appears
// under its name when it is complete.
//
// The error Is fs.ErrNotExist when there is no such artifact, fs.ErrExist when
// a file is there already.
func (s *Store) PullArtifact(ctx context.Context, name, dir string, opts *PullArtifactOptions) (*Artifact, error) {
	if opts == nil {
		opts = &PullArtifactOptions{}
	}
	a, err := s.pullArtifact(ctx, name, dir, opts)
	if err != nil {
		return nil, fault.New("artifact pull", name, err)
	}
	if _, err := s.s.Collect(ctx, &store.CollectOptions{PartialAge: partialAge}); err != nil {
		s.log.Warn("image: data of an artifact not collected yet", "artifact", name, "err", err)
	}
	return a, nil
}

func (s *Store) pullArtifact(ctx context.Context, name, dir string, opts *PullArtifactOptions) (*Artifact, error) {
	ref, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	p := &puller{s: s, opts: &PullOptions{}, stall: opts.StallTimeout}
	if p.stall <= 0 {
		p.stall = stallTimeout
	}
	if p.sources, err = s.sources(ref, opts.StallTimeout); err != nil {
		return nil, err
	}
	defer p.close()
	if p.lease, err = s.s.Lease(ctx); err != nil {
		return nil, err
	}
	defer p.lease.Close()
	trust, err := s.trust(ref)
	if err != nil {
		return nil, err
	}
	d, data, err := p.top(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := trust.verify(ctx, p, ref, string(d)); err != nil {
		return nil, err
	}
	a, layers, err := parseArtifact(d, data)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	report := newReporter(opts.Progress, len(layers))
	for i, l := range layers {
		report.begin(i, string(l.Digest), l.Size)
	}
	for i, l := range layers {
		f := &a.Files[i]
		if err := p.writeFile(ctx, root, f, l, opts.Overwrite, report, i); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		f.Path = filepath.Join(dir, filepath.FromSlash(f.Name))
	}
	return a, nil
}

// parseArtifact reads a manifest as that of an artifact.
func parseArtifact(d digest.Digest, data []byte) (*Artifact, []ocispec.Descriptor, error) {
	if _, isIndex, err := store.ParseIndex(data); err != nil || isIndex {
		return nil, nil, errors.Join(err, fault.Invalid("an index of several manifests: give the digest of one, see Document"))
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, nil, fault.Invalid("the manifest is malformed: %w", err)
	}
	a := &Artifact{Digest: string(d), Type: m.ArtifactType, Annotations: m.Annotations}
	if a.Type == "" {
		a.Type = m.Config.MediaType
	}
	if m.Subject != nil {
		a.Subject = string(m.Subject.Digest)
	}
	var layers []ocispec.Descriptor
	for _, l := range m.Layers {
		if l.MediaType == ocispec.MediaTypeEmptyJSON {
			continue
		}
		if err := store.CheckDigest(l.Digest); err != nil {
			return nil, nil, err
		}
		if l.Size < 0 {
			return nil, nil, fault.Invalid("%s has the impossible size %d", l.Digest, l.Size)
		}
		name := l.Annotations[ocispec.AnnotationTitle]
		if name == "" || !filepath.IsLocal(filepath.FromSlash(name)) || strings.ContainsAny(name, "\\\x00") {
			name = l.Digest.Encoded()
		}
		layers = append(layers, l)
		a.Files = append(a.Files, ArtifactFile{Name: name, MediaType: l.MediaType, Annotations: l.Annotations, Digest: string(l.Digest), Size: l.Size})
	}
	return a, layers, nil
}

// writeFile fetches one file. Nothing that its name says leads out of root.
func (p *puller) writeFile(ctx context.Context, root *os.Root, f *ArtifactFile, blob ocispec.Descriptor, overwrite bool, report *reporter, i int) error {
	if _, err := root.Lstat(f.Name); err == nil && !overwrite {
		return fault.Kind(fs.ErrExist, "the file exists: remove it, or overwrite it")
	}
	if err := p.lease.Add(ctx, blob.Digest); err != nil {
		return err
	}
	d := p.download(blob)
	d.tell = func(n int64) { report.bytes(i, n) }
	if _, err := d.run(ctx); err != nil {
		return err
	}
	if err := p.s.copyOut(ctx, root, f.Name, blob.Digest); err != nil {
		return err
	}
	report.sent(i, Done, "")
	return nil
}
