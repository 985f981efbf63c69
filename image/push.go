package image

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/store"
)

// PushOptions tune Push.
type PushOptions struct {
	// AllTags pushes every tag that the store has of the repository. The name
	// is then given without a tag.
	AllTags bool
	// Platform pushes one platform's image alone, such as "linux/arm64";
	// default all that the store has under the name, as one index.
	Platform string
	// Compress is the compression of the layers: "gzip" or "zstd" for all of
	// them, "keep" to leave them as they are. Default: those that came from a
	// registry, or are compressed, stay as they are, so that the digest pushed
	// is the digest pulled; plain ones of images that were imported or loaded
	// are compressed with gzip. The same layer always gives the same bytes.
	Compress string
	// Whole refuses to push a part of an index: without it an index of those
	// platforms is pushed that the store or the registry's repository has.
	Whole bool
	// Progress is told about each layer. Calls do not overlap; the push waits
	// for them.
	Progress func(Progress)
	// Parallel is how many blobs are sent at a time. 0: 5, as in Docker
	// (max-concurrent-uploads).
	Parallel int
	// StallTimeout is how long a connection may take no byte before it is
	// broken off and begun again where it ended. 0: 30 seconds.
	StallTimeout time.Duration
}

// Pushed is what a registry has now under one tag.
type Pushed struct {
	Ref       Ref
	Digest    string // of the manifest or index
	MediaType string
	Size      int64 // of the manifest or index in bytes
}

// Push sends an image to the registry of its name, never to a mirror. What the
// registry has is not sent again, also when it is in another repository there
// that the store knows of. Uploads go on where a broken connection ended. A
// push that fails or whose ctx ends leaves blobs without a name in the
// registry, which the next push finds.
//
// The error Is fs.ErrNotExist when there is no such image here or no such
// repository there, fs.ErrPermission when the registry denies access,
// fs.ErrInvalid when it does not accept the image.
func (s *Store) Push(ctx context.Context, name string, opts *PushOptions) ([]Pushed, error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	done, err := s.push(ctx, name, opts)
	return done, fault.New("image push", name, err)
}

func (s *Store) push(ctx context.Context, name string, opts *PushOptions) ([]Pushed, error) {
	ref, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	if err := checkCompress(opts.Compress); err != nil {
		return nil, err
	}
	names, err := s.pushedNames(ctx, name, ref, opts)
	if err != nil {
		return nil, err
	}
	l, err := s.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	p, err := s.newPusher(ctx, ref, l, opts)
	if err != nil {
		return nil, err
	}
	defer p.dst.wire.close()
	var done []Pushed
	for _, n := range names {
		one, err := p.name(ctx, n)
		if err != nil {
			return done, err
		}
		done = append(done, *one)
	}
	return done, nil
}

// pushedNames lists what is to be pushed.
func (s *Store) pushedNames(ctx context.Context, name string, ref Ref, opts *PushOptions) ([]*store.Name, error) {
	if !opts.AllTags {
		n, err := s.s.Name(ctx, ref.stored().String())
		if err != nil {
			return nil, err
		}
		return []*store.Name{n}, nil
	}
	if ref.Digest != "" || strings.HasSuffix(name, ":"+ref.Tag) {
		return nil, fault.Invalid("all tags are to be pushed: leave the tag or digest away")
	}
	all, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n *store.Name) bool { return repositoryOf(n) != ref.Name() || strings.Contains(n.Name, "@") })
	if len(all) == 0 {
		return nil, fault.NotExist("no image has a tag in this repository; give one its name first")
	}
	return all, nil
}

// stallTimeout is the default of options of that name.
const stallTimeout = 30 * time.Second

// pusher is one Push.
type pusher struct {
	s     *Store
	opts  *PushOptions
	dst   *source
	lease *store.Lease
	stall time.Duration
	from  map[digest.Digest][]string // repositories of the registry that have a blob
	sent  map[digest.Digest]bool     // for an earlier tag
}

func (s *Store) newPusher(ctx context.Context, ref Ref, l *store.Lease, opts *PushOptions) (*pusher, error) {
	all, err := s.sources(ref, opts.StallTimeout)
	if err != nil {
		return nil, err
	}
	p := &pusher{s: s, opts: opts, dst: originOf(all), lease: l, stall: opts.StallTimeout, sent: map[digest.Digest]bool{}}
	if p.stall <= 0 {
		p.stall = stallTimeout
	}
	if p.from, err = s.mountable(ctx, ref); err != nil {
		return nil, err
	}
	p.dst.push = true
	p.dst.scopes = []string{"repository:" + ref.Repository + ":push,pull"}
	return p, nil
}

// maxMounts is how many other repositories a blob is looked for in.
const maxMounts = 3

// mountable says in which other repositories of the registry blobs are, as far
// as pulls and pushes have told.
func (s *Store) mountable(ctx context.Context, ref Ref) (map[digest.Digest][]string, error) {
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	from := map[digest.Digest][]string{}
	for _, n := range names {
		other, err := parseRef(n.Name)
		if err != nil || !n.Pulled || other.Registry != ref.Registry || other.Repository == ref.Repository {
			continue
		}
		img, err := s.s.Image(n.Manifest)
		if err != nil {
			continue // it may be damaged: then nothing comes from there
		}
		for _, l := range img.Layers {
			if list := from[l.Blob.Digest]; len(list) < maxMounts && !slices.Contains(list, other.Repository) {
				from[l.Blob.Digest] = append(list, other.Repository)
			}
		}
	}
	return from, nil
}

// scope asks the token for the repositories that blobs may be mounted from, too.
func (p *pusher) scope(out *outgoing) {
	for _, c := range out.contents {
		for _, repo := range p.from[c.Digest] {
			if scope := "repository:" + repo + ":pull"; !slices.Contains(p.dst.scopes, scope) && len(p.dst.scopes) <= maxMounts {
				p.dst.scopes = append(p.dst.scopes, scope)
			}
		}
	}
}

// name pushes what one name stands for.
func (p *pusher) name(ctx context.Context, n *store.Name) (*Pushed, error) {
	ref, err := parseRef(n.Name)
	if err != nil {
		return nil, err
	}
	out, err := p.prepare(ctx, n)
	if err != nil {
		return nil, err
	}
	done, err := p.send(ctx, ref, out)
	if err == nil {
		p.known(ctx, n, out.top().digest)
	}
	return done, err
}

// send sends blobs, then manifests, then what the name will stand for.
func (p *pusher) send(ctx context.Context, ref Ref, out *outgoing) (*Pushed, error) {
	top := out.top()
	if ref.Digest != "" && ref.Digest != string(top.digest) {
		return nil, fault.Invalid("what would be pushed has the digest %s; push it by a tag", top.digest)
	}
	if err := p.contents(ctx, out); err != nil {
		return nil, err
	}
	step.At("push.blobs")
	for _, d := range out.documents[:len(out.documents)-1] {
		if err := p.document(ctx, d, string(d.digest)); err != nil {
			return nil, err
		}
	}
	what := ref.Tag
	if ref.Digest != "" {
		what = ref.Digest
	}
	if err := p.document(ctx, top, what); err != nil {
		return nil, err
	}
	step.At("push.named")
	return &Pushed{Ref: ref, Digest: string(top.digest), MediaType: top.mediaType, Size: int64(len(top.data))}, nil
}

// prepare finds what is to be sent and gives it its form.
func (p *pusher) prepare(ctx context.Context, n *store.Name) (*outgoing, error) {
	g := &gatherer{s: p.s, lease: p.lease, platform: p.opts.Platform, whole: p.opts.Whole, elsewhere: p.hasManifest}
	out, err := g.gather(ctx, n)
	if err != nil {
		return nil, err
	}
	p.scope(out)
	v, err := p.s.converter(ctx, n, p.lease, p.opts.Compress)
	if err != nil {
		return nil, err
	}
	v.there = func(ctx context.Context, d digest.Digest) bool {
		has, err := p.dst.hasBlob(ctx, d)
		return has && err == nil
	}
	if f := p.opts.Progress; f != nil {
		layers := out.layers()
		report := newReporter(f, len(layers))
		v.tell = func(c *content) {
			i := slices.Index(layers, c)
			report.update(i, func(l *layerState) { l.Layer, l.Total, l.Phase = string(c.Digest), c.Size, Compressing })
		}
	}
	return v.run(ctx, out)
}

// converter for what one name stands for, as Compress of the options says.
func (s *Store) converter(ctx context.Context, n *store.Name, l *store.Lease, compress string) (*converter, error) {
	v := &converter{s: s, lease: l, to: compress}
	if compress == KeepCompression {
		v.to = ""
	}
	if compress != "" {
		return v, nil
	}
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(names, func(other *store.Name) bool { return other.Pulled && other.Target == n.Target }) {
		v.to, v.plainOnly = Gzip, true
	}
	return v, nil
}

// layers are those contents that are layers.
func (o *outgoing) layers() []*content {
	return slices.DeleteFunc(slices.Clone(o.contents), func(c *content) bool { return !c.layer })
}

// contents sends all blobs, several at a time.
func (p *pusher) contents(ctx context.Context, out *outgoing) error {
	layers := out.layers()
	report := newReporter(p.opts.Progress, len(layers))
	for i, c := range layers {
		report.begin(i, string(c.Digest), c.Size)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(5)
	if p.opts.Parallel > 0 {
		g.SetLimit(p.opts.Parallel)
	}
	for _, c := range out.contents {
		i := slices.Index(layers, c)
		g.Go(func() error {
			if p.sent[c.Digest] {
				report.sent(i, Exists, "")
				return nil
			}
			return p.content(gctx, c, report, i)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, c := range out.contents {
		p.sent[c.Digest] = true
	}
	return nil
}

func (p *pusher) content(ctx context.Context, c *content, report *reporter, i int) error {
	u := &upload{dst: p.dst, blob: c, from: slices.Clone(p.from[c.Digest]), stall: p.stall, tell: func(n int64) { report.sending(i, n) }}
	if c.open == nil { // the registry had it a moment ago
		u.blob = &content{Descriptor: c.Descriptor, open: func(context.Context) (blobFile, error) { return p.s.s.OpenBlob(c.Digest) }}
	}
	existed, err := u.run(ctx)
	switch {
	case err != nil && ctx.Err() == nil && statusOf(err) == http.StatusBadRequest:
		return fmt.Errorf("blob %s: %w%s", c.Digest, err, p.s.damage(ctx, c))
	case err != nil:
		return err
	case existed:
		report.sent(i, Exists, "")
	case u.mounted != "":
		report.sent(i, Mounted, u.mounted)
	default:
		report.sent(i, Done, "")
	}
	return nil
}

// damage says whether a blob that a registry refused is not what it should be.
func (s *Store) damage(ctx context.Context, c *content) string {
	if c.open == nil {
		return ""
	}
	f, err := c.open(ctx)
	if err != nil {
		return ""
	}
	defer f.Close()
	got, err := digest.FromReader(&patient{ctx, f})
	if err != nil || got == c.Digest {
		return ""
	}
	return fmt.Sprintf(" (the store's copy is damaged, its content is %s: pull or load the image again)", got)
}

// known remembers that the registry has the image under its name, unless the
// name means something else by now or something else was pushed.
func (p *pusher) known(ctx context.Context, n *store.Name, pushed digest.Digest) {
	if n.Pulled || n.Target != pushed {
		return
	}
	err := p.s.s.UpdateNames(ctx, func(tx *store.NamesTx) error {
		have := tx.Get(n.Name)
		if have == nil || have.Target != n.Target || have.Pulled {
			return nil
		}
		changed := *have
		changed.Pulled = true
		return tx.Put(ctx, "push", changed)
	})
	if err != nil && ctx.Err() == nil {
		p.s.log.Warn("image: pushed, but not noted", "image", n.Name, "err", err)
	}
}
