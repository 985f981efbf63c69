package build

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// export brings what was made to the outputs of the request.
func (s *solver) export(ctx context.Context, c *conversion) (*Result, error) {
	products := make([]product, len(c.Targets))
	g, gctx := errgroup.WithContext(ctx)
	for i, t := range c.Targets {
		g.Go(func() error {
			p := product{platform: platformText(t.Platform), config: t.Config, base: t.Base, epoch: t.Epoch}
			r, err := s.build.Solve(gctx, t.Tree)
			if err == nil {
				p.layers, err = r.Layers(gctx)
			}
			products[i] = p
			return located(err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	x := &exporter{images: s.images, store: s.store, lease: s.build.Lease(), names: s.job.request.Tags, index: c.Index, tell: s.job.tell}
	s.mu.Lock()
	for _, b := range s.bases {
		x.bases = append(x.bases, b.Manifest())
	}
	s.mu.Unlock()
	w := &cacheWriter{x: x, cache: s.cache, to: s.job.request.CacheTo}
	if len(w.to) > 0 {
		var err error
		if w.known, err = s.build.Known(ctx); err != nil {
			return nil, err
		}
		x.cache = w
	}
	r, err := x.export(ctx, products, s.job.request.Outputs)
	if err != nil {
		return nil, err
	}
	return r, w.write(ctx, products)
}
