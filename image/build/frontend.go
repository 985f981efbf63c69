package build

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// target is what is to be made for one platform.
type target struct {
	Platform ocispec.Platform
	Tree     op.Input // a nil vertex is an empty tree
	// Config is the image's configuration without times and with the layers of
	// the base image alone; nothing that Docker's format has is lost in it.
	Config []byte
	Base   []byte     // configuration of the base image; nil for scratch
	Epoch  *time.Time // SOURCE_DATE_EPOCH
}

// conversion is a Dockerfile as the frontend understands it.
type conversion struct {
	Targets []target
	Index   bool   // an index is asked for
	Syntax  string // the frontend image that the Dockerfile asks for
}

// frontend is BuildKit's, over an engine.
type frontend struct {
	gateway *gateway
	ui      *dockerui.Client
	source  *dockerui.Source
	syntax  string
	warn    func(Warning)
}

// newFrontend reads the Dockerfile.
func newFrontend(ctx context.Context, g *gateway, warn func(Warning)) (*frontend, error) {
	ui, err := dockerui.NewClient(g)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	src, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, err
	}
	g.graph.keepText(src.Filename, src.Data)
	f := &frontend{gateway: g, ui: ui, source: src, warn: warn}
	if err := f.checkSyntax(); err != nil {
		return nil, err
	}
	return f, nil
}

// builtin are the frontend images that this one stands for, whatever their tag.
var builtin = regexp.MustCompile(`^(docker\.io/)?docker/dockerfile(-upstream)?([:@].*)?$`)

// checkSyntax refuses to read a language that only another frontend knows.
func (f *frontend) checkSyntax() error {
	ref, line, at, ok := parser.DetectSyntax(f.source.Data)
	if arg := f.gateway.opts["build-arg:BUILDKIT_SYNTAX"]; arg != "" {
		ref, line, at, ok = strings.Fields(arg)[0], arg, nil, true
	}
	if !ok {
		return nil
	}
	f.syntax = ref
	if builtin.MatchString(ref) {
		return nil
	}
	err := unsupported("the syntax %q: external frontends are not run; docker/dockerfile is built in. This Dockerfile", line)
	return &placeError{places: f.places(at), err: err}
}

// options of a conversion for one platform.
func (f *frontend) options(ctx context.Context, p *ocispec.Platform, lint bool) dockerfile2llb.ConvertOpt {
	opt := dockerfile2llb.ConvertOpt{Config: f.ui.Config, Client: f.ui, SourceMap: f.source.SourceMap, MetaResolver: f.gateway, TargetPlatform: p}
	opt.BuildArgs = maps.Clone(opt.BuildArgs) // the conversion changes it
	if lint {
		opt.Warn = func(rule, description, url, text string, at []parser.Range) {
			f.warn(Warning{Rule: rule, Text: text, Detail: description, URL: url, Places: publicPlaces(f.places(at))})
		}
	}
	return opt
}

// convert makes the graphs of all platforms. Nothing is evaluated but what the
// conversion itself must look into.
func (f *frontend) convert(ctx context.Context) (*conversion, error) {
	targets := make([]target, max(1, len(f.ui.TargetPlatforms)))
	var mu sync.Mutex
	_, err := f.ui.Build(ctx, func(ctx context.Context, p *ocispec.Platform, i int) (*dockerui.BuildResult, error) {
		// Lint is the same for all platforms.
		res, err := dockerfile2llb.Dockerfile2LLB(ctx, f.source.Data, f.options(ctx, p, i == 0))
		if err != nil {
			return nil, err
		}
		def, err := res.State.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		r, err := f.gateway.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
		if err != nil {
			return nil, err
		}
		t := target{Tree: r.Ref.(*reference).tree, Epoch: res.Epoch, Platform: f.gateway.host}
		if p != nil {
			t.Platform = *p
		} else if res.Image.OS != "" && res.Image.Architecture != "" {
			t.Platform = platforms.Normalize(res.Image.Platform)
		}
		if t.Config, t.Base, err = configs(res); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		targets[i] = t
		return &dockerui.BuildResult{Reference: r.Ref, Image: res.Image, BaseImage: res.BaseImage, Epoch: res.Epoch}, nil
	})
	if err != nil {
		return nil, f.located(err)
	}
	return &conversion{Targets: targets, Index: f.ui.MultiPlatformRequested, Syntax: f.syntax}, nil
}

// located finds the place of an error of the frontend. What is wrong with the
// Dockerfile, and not with the engine below, is the caller's mistake.
func (f *frontend) located(err error) error {
	var at *parser.LocationError
	var step *stepError
	if err == nil || errors.As(err, &step) {
		return err
	}
	var below *engineError
	var known *fault.Error
	if !errors.As(err, &below) && !errors.As(err, &known) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errors.ErrUnsupported) {
		err = fault.Invalid("%w", err)
	}
	if !errors.As(err, &at) || len(at.Locations) == 0 {
		return err
	}
	return &placeError{places: f.places(at.Locations[0]), err: err}
}

// places of the Dockerfile.
func (f *frontend) places(ranges []parser.Range) []op.Place {
	var all []op.Place
	for _, r := range ranges {
		if r.Start.Line > 0 {
			all = append(all, op.Place{File: f.source.Filename, First: r.Start.Line, Last: max(r.Start.Line, r.End.Line)})
		}
	}
	return joined(all)
}
