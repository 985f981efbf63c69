package image

import (
	"bufio"
	"context"
	"io"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// SaveAssembled is Save for what Assemble made, under these names, whether the
// store knows it by them or not. Platform of the options is ignored. Without
// Compress, layers that have no blob yet are compressed with gzip.
func (s *Store) SaveAssembled(ctx context.Context, l *store.Lease, w io.Writer, a *Assembled, names []string, opts *SaveOptions) error {
	if opts == nil {
		opts = &SaveOptions{}
	}
	bw := bufio.NewWriterSize(w, 256<<10)
	err := s.saveAssembled(ctx, l, newTarSink(bw), a, names, opts)
	if err == nil {
		err = bw.Flush()
	}
	return fault.New("image save", strings.Join(names, " "), err)
}

// SaveDirAssembled is SaveAssembled into a directory with an OCI layout, as
// SaveDir writes it.
func (s *Store) SaveDirAssembled(ctx context.Context, l *store.Lease, dir string, a *Assembled, names []string) error {
	sink, err := newDirSink(dir)
	if err == nil {
		defer sink.root.Close()
		err = s.saveAssembled(ctx, l, sink, a, names, &SaveOptions{OCI: true})
	}
	return fault.New("image save", strings.Join(names, " "), err)
}

// PushAssembled is Push for what Assemble made, to a name that the store need
// not know.
func (s *Store) PushAssembled(ctx context.Context, l *store.Lease, a *Assembled, name string, opts *PushOptions) (*Pushed, error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	done, err := s.pushAssembled(ctx, l, a, name, opts)
	return done, fault.New("image push", name, err)
}

func (s *Store) pushAssembled(ctx context.Context, l *store.Lease, a *Assembled, name string, opts *PushOptions) (*Pushed, error) {
	ref, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	if err := checkCompress(opts.Compress); err != nil {
		return nil, err
	}
	p, err := s.newPusher(ctx, ref, l, opts)
	if err != nil {
		return nil, err
	}
	defer p.dst.wire.close()
	out, err := p.prepare(ctx, &store.Name{Target: a.Target.Digest, Manifest: a.Image.img.Manifest, ImageID: a.Image.img.ID})
	if err != nil {
		return nil, err
	}
	return p.send(ctx, ref, out)
}

func (s *Store) saveAssembled(ctx context.Context, l *store.Lease, to sink, a *Assembled, names []string, opts *SaveOptions) error {
	if err := checkCompress(opts.Compress); err != nil {
		return err
	}
	one := &saved{}
	for _, name := range names {
		ref, err := parseRef(name)
		if err != nil {
			return err
		}
		one.names = append(one.names, ref)
	}
	n := &store.Name{Target: a.Target.Digest, Manifest: a.Image.img.Manifest, ImageID: a.Image.img.ID}
	out, err := (&gatherer{s: s, lease: l}).gather(ctx, n)
	if err != nil {
		return err
	}
	v := &converter{s: s, lease: l, to: opts.Compress}
	switch opts.Compress {
	case "":
		v.to, v.plainOnly = Gzip, true
	case KeepCompression:
		v.to = ""
	}
	if one.outgoing, err = v.run(ctx, out); err != nil {
		return err
	}
	if one.image, err = one.imageOf(n.ImageID); err != nil {
		return err
	}
	return writeArchive(ctx, to, []*saved{one}, opts.OCI)
}

// writeArchive writes images, blobs first.
func writeArchive(ctx context.Context, to sink, all []*saved, oci bool) error {
	if err := writeBlobs(ctx, to, all); err != nil {
		return err
	}
	layout, err := newLayout(all, oci)
	if err != nil {
		return err
	}
	return to.end(ctx, layout)
}
