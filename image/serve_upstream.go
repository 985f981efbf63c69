package image

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Tag makes a tag what its registry says now. Layers are fetched when a client
// asks for them.
func (v *serving) Tag(ctx context.Context, repository, tag string) error {
	ref, err := parseRef(repository + ":" + tag)
	if err != nil {
		return err
	}
	return v.s.withPuller(ctx, ref, func(p *puller) error {
		d, err := p.resolve(ctx, ref.Tag)
		if err != nil {
			return err
		}
		if have, err := v.s.s.Name(ctx, ref.String()); err == nil && d != "" && have.Target == d {
			if _, ok := v.s.s.HasBlob(d); ok {
				return nil
			}
		}
		return v.fetch(ctx, p, ref)
	})
}

// Manifest gets a manifest by digest.
func (v *serving) Manifest(ctx context.Context, repository string, d digest.Digest, listed bool) error {
	ref, err := parseRef(repository + "@" + string(d))
	if err != nil {
		return err
	}
	return v.s.withPuller(ctx, ref, func(p *puller) error {
		if listed { // by what fulfilled the rules of trust, or was here before
			if _, err := v.s.trust(ref); err != nil {
				return err
			}
			_, err := p.manifest(ctx, d)
			return err
		}
		return v.fetch(ctx, p, ref)
	})
}

// fetch gets what ref stands for, with the config of the image that it means
// on this machine, and names it. From then on it is an image of the store, so
// it must fulfil what a pull must; of an index, the index itself has to, since
// clients may take any of its images.
func (v *serving) fetch(ctx context.Context, p *puller, ref Ref) error {
	trust, err := v.s.trust(ref)
	if err != nil {
		return err
	}
	target, data, err := p.top(ctx, ref)
	if err != nil {
		return err
	}
	if err := trust.verify(ctx, p, ref, string(target)); err != nil {
		return err
	}
	n := store.Name{Name: ref.stored().String(), Target: target, MediaType: store.MediaType(data), Pulled: true}
	if err := v.configs(ctx, p, data); err != nil {
		return err
	}
	v.Describe(&n, data)
	return v.s.s.UpdateNames(ctx, func(tx *store.NamesTx) error { return tx.Give(ctx, "pull", n) })
}

// configs gets what Describe needs: the config of an image, or of the one of
// an index that suits this machine.
func (v *serving) configs(ctx context.Context, p *puller, data []byte) error {
	entries, err := p.entries(ctx, data, 0)
	if err != nil {
		return err
	}
	if entries != nil {
		e, err := choose(entries, p.want)
		for i := 0; err != nil && i < len(entries); i++ {
			if !store.IsAttestation(entries[i]) {
				e, err = entries[i], nil
			}
		}
		if err != nil {
			return nil // nothing in it is an image
		}
		if data, err = p.manifest(ctx, e.Digest); err != nil {
			return err
		}
	}
	_, config, err := store.ParseManifest(data)
	if err != nil {
		return nil // an artifact
	}
	if config.Size > store.MaxMetadata {
		return fault.Invalid("config %s has %d bytes, more than the %d allowed", config.Digest, config.Size, store.MaxMetadata)
	}
	if err := p.lease.Add(ctx, config.Digest); err != nil {
		return err
	}
	_, err = p.download(*config).run(ctx)
	return err
}

// Blob fetches a blob, or follows another process that does. It is read while
// it arrives; the end is not read before its digest was verified.
func (v *serving) Blob(ctx context.Context, repository string, blob ocispec.Descriptor) (io.ReadCloser, error) {
	ref, err := parseRef(repository)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	in := &incoming{cancel: cancel, done: make(chan struct{})}
	began := make(chan error, 2) // what comes after the beginning nobody waits for
	go func() {
		defer close(in.done)
		began <- v.s.withPuller(ctx, ref, func(p *puller) error {
			if err := p.lease.Add(ctx, blob.Digest); err != nil {
				return err
			}
			d, over := p.download(blob), make(chan error, 1)
			go func() {
				_, err := d.run(ctx)
				over <- err
			}()
			var err error
			if in.ReadCloser, err = d.open(ctx); err == nil {
				began <- nil
			}
			return <-over
		})
	}()
	if err := <-began; err != nil {
		cancel()
		return nil, err
	}
	return in, nil
}

// incoming is a blob being fetched.
type incoming struct {
	io.ReadCloser
	cancel func()
	done   chan struct{}
}

// Close returns when the blob is in the store, or given up. It is idempotent.
func (in *incoming) Close() error {
	in.cancel()
	<-in.done
	return in.ReadCloser.Close()
}
