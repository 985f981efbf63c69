package build

import (
	"context"
	"maps"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// storeLayout is the name of an OCI layout that is no layout but the image
// store: so a named context can be an image by its digest, which never needs a
// name or a registry.
const storeLayout = "store.amphora.internal/images"

// gateway is what BuildKit's frontend takes for BuildKit: it answers from the
// engine and from the caller's files.
type gateway struct {
	engine  engine
	session *session
	graph   *graph
	opts    map[string]string
	host    ocispec.Platform

	mu      sync.Mutex                // guards what follows
	configs map[configKey]*configCall // what was asked about images, once for each
}

var _ client.Client = (*gateway)(nil)

func newGateway(e engine, s *session, g *graph, opts map[string]string) *gateway {
	return &gateway{engine: e, session: s, graph: g, opts: opts, host: g.host, configs: map[configKey]*configCall{}}
}

// BuildOpts claims every capability: what we cannot do is refused by name when
// the graph is translated.
func (g *gateway) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      maps.Clone(g.opts),
		SessionID: "caller",
		Workers:   []client.WorkerInfo{{ID: "amphora", Platforms: []ocispec.Platform{g.host}}},
		Product:   "amphora",
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// Solve makes a reference. Nothing is evaluated yet unless it is asked for.
func (g *gateway) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Frontend != "" {
		return nil, unsupported("the frontend %s", req.Frontend)
	}
	root, err := g.graph.add(req.Definition)
	if err != nil {
		return nil, err
	}
	r := &reference{g: g, tree: root, def: req.Definition}
	if req.Evaluate {
		if err := r.Evaluate(ctx); err != nil {
			return nil, err
		}
	}
	res := client.NewResult()
	res.SetRef(r)
	return res, nil
}

// configKey is a question about an image.
type configKey struct{ layout, ref, mode, platform string }

// configCall is its answer, once done is closed.
type configCall struct {
	done   chan struct{}
	ref    string
	digest digest.Digest
	config []byte
	err    error
}

// ResolveImageConfig asks about each image once in a build: the stages of a
// Dockerfile are converted side by side, and all must see the same image.
func (g *gateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	key := configKey{ref: ref}
	p := g.host
	if o := opt.ImageOpt; o != nil {
		key.mode = o.ResolveMode
		if o.Platform != nil {
			p = *o.Platform
		}
	}
	if o := opt.OCILayoutOpt; o != nil {
		key.layout = o.Store.StoreID
		if o.Platform != nil {
			p = *o.Platform
		}
	}
	key.platform = platformText(p)
	g.mu.Lock()
	call := g.configs[key]
	if call == nil {
		call = &configCall{done: make(chan struct{})}
		g.configs[key] = call
		g.mu.Unlock()
		call.ref, call.digest, call.config, call.err = g.imageConfig(ctx, key, p)
		if call.err != nil {
			call.err = &engineError{call.err}
		}
		close(call.done)
	} else {
		g.mu.Unlock()
	}
	select {
	case <-call.done:
		return call.ref, call.digest, call.config, call.err
	case <-ctx.Done():
		return "", "", nil, ctx.Err()
	}
}

func (g *gateway) imageConfig(ctx context.Context, key configKey, p ocispec.Platform) (string, digest.Digest, []byte, error) {
	o, err := imageSource(key.ref, attributes{pb.AttrImageResolveMode: key.mode})
	if key.layout != "" {
		o, err = layoutSource(key.ref, attributes{pb.AttrOCILayoutStoreID: key.layout}), nil
	}
	if err != nil {
		return "", "", nil, err
	}
	if l, ok := o.(*op.Layout); ok {
		return g.engine.LayoutConfig(ctx, l, p)
	}
	return g.engine.ImageConfig(ctx, o.(*op.Image), p)
}

// ResolveSourceMetadata is asked for SOURCE_DATE_EPOCH=context.
func (g *gateway) ResolveSourceMetadata(ctx context.Context, s *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	o, err := source(s)
	if err != nil {
		return nil, err
	}
	res := &sourceresolver.MetaResponse{Op: s}
	switch o := o.(type) {
	case *op.Git:
		h, err := g.engine.GitHead(ctx, o, opt.GitOpt != nil && opt.GitOpt.ReturnObject)
		if err != nil {
			return nil, &engineError{err}
		}
		res.Git = &sourceresolver.ResolveGitResponse{Checksum: h.Commit, CommitChecksum: h.Commit, Ref: h.Ref, CommitObject: h.Object}
	case *op.HTTP:
		h, err := g.engine.HTTPHead(ctx, o)
		if err != nil {
			return nil, &engineError{err}
		}
		res.HTTP = &sourceresolver.ResolveHTTPResponse{Digest: h.Digest, Filename: h.Filename, LastModified: h.Modified}
	case *op.Image:
		ref, d, config, err := g.ResolveImageConfig(ctx, o.Ref, opt)
		if err != nil {
			return nil, err
		}
		res.Op = &pb.SourceOp{Identifier: "docker-image://" + ref, Attrs: s.Attrs}
		res.Image = &sourceresolver.ResolveImageResponse{Digest: d, Config: config}
	case *op.Layout:
		_, d, config, err := g.ResolveImageConfig(ctx, o.Ref, opt)
		if err != nil {
			return nil, err
		}
		res.Image = &sourceresolver.ResolveImageResponse{Digest: d, Config: config}
	}
	return res, nil
}

// Inputs are trees that another frontend made; there is none.
func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer is for frontends that run commands themselves.
func (g *gateway) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, fault.Unsupported("a frontend cannot run containers here")
}

// Warn is not how lint arrives: see convertOpt.
func (g *gateway) Warn(context.Context, digest.Digest, string, client.WarnOpts) error { return nil }
