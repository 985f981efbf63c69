package build

import (
	"context"
	"encoding/json"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// configs are the image's and its base's configuration.
func configs(res *dockerfile2llb.Result) (config, base []byte, err error) {
	if config, err = json.Marshal(res.Image); err != nil {
		return nil, nil, err
	}
	if res.BaseImage != nil {
		base, err = json.Marshal(res.BaseImage)
	}
	return config, base, err
}

// lint checks the whole Dockerfile, or what the target needs of it.
func (f *frontend) lint(ctx context.Context) (*LintResult, error) {
	res, err := dockerfile2llb.DockerfileLint(ctx, f.source.Data, f.options(ctx, nil, false))
	if err != nil {
		return nil, f.located(err)
	}
	out := &LintResult{}
	for _, w := range res.Warnings {
		out.Warnings = append(out.Warnings, Warning{
			Rule: w.RuleName, Text: w.Detail, Detail: w.Description, URL: w.URL,
			Places: publicPlaces(f.ranges(w.Location.GetRanges())),
		})
	}
	if e := res.Error; e != nil {
		var err error = fault.Invalid("%s", e.Message)
		if at := f.ranges(e.Location.GetRanges()); len(at) > 0 {
			err = &placeError{places: at, err: err}
		}
		out.Err = failure("lint", err, f.gateway.graph.text)
	}
	return out, nil
}

func (f *frontend) outline(ctx context.Context) (*Outline, error) {
	o, err := dockerfile2llb.Dockerfile2Outline(ctx, f.source.Data, f.options(ctx, nil, false))
	if err != nil {
		return nil, f.located(err)
	}
	out := &Outline{Target: o.Name, Description: o.Description}
	for _, a := range o.Args {
		out.Args = append(out.Args, OutlineArg{Name: a.Name, Description: a.Description, Value: a.Value, Place: f.place(a.Location)})
	}
	for _, s := range o.Secrets {
		out.Secrets = append(out.Secrets, OutlineSecret{ID: s.Name, Required: s.Required, Place: f.place(s.Location)})
	}
	for _, s := range o.SSH {
		out.SSH = append(out.SSH, OutlineSecret{ID: s.Name, Required: s.Required, Place: f.place(s.Location)})
	}
	for _, c := range o.Cache {
		out.Caches = append(out.Caches, OutlineCache{ID: c.ID, Place: f.place(c.Location)})
	}
	return out, nil
}

func (f *frontend) targets(ctx context.Context) ([]Target, error) {
	list, err := dockerfile2llb.ListTargets(ctx, f.source.Data)
	if err != nil {
		return nil, f.located(err)
	}
	var all []Target
	for _, t := range list.Targets {
		all = append(all, Target{
			Name: t.Name, Description: t.Description, Default: t.Default, Base: t.Base, Platform: t.Platform, Place: f.place(t.Location),
		})
	}
	return all, nil
}

func (f *frontend) place(l *pb.Location) Place {
	for _, p := range f.ranges(l.GetRanges()) {
		return Place(p)
	}
	return Place{}
}

func (f *frontend) ranges(rs []*pb.Range) []op.Place {
	var all []op.Place
	for _, r := range rs {
		if first := int(r.GetStart().GetLine()); first > 0 {
			all = append(all, op.Place{File: f.source.Filename, First: first, Last: max(first, int(r.GetEnd().GetLine()))})
		}
	}
	return joined(all)
}
