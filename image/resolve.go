package image

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// Get finds an image by a reference, by its id with or without "sha256:", or
// by a unique beginning of its id; a reference wins over an id. The error Is
// fs.ErrNotExist when there is none, fs.ErrInvalid when several ids begin so.
func (s *Store) Get(ctx context.Context, name string) (*Image, error) {
	n, err := s.find(ctx, name)
	if err != nil {
		return nil, fault.New("image get", name, err)
	}
	img, err := s.open(n)
	if errors.Is(err, store.ErrMissing) {
		// Removed since we read its name, or damaged?
		if _, again := s.find(ctx, name); again != nil {
			err = again
		}
	}
	if err != nil {
		return nil, fault.New("image get", name, err)
	}
	return img, nil
}

// find returns the file of the name, or one of the files of the id: then with
// an empty Name, since the caller did not ask for a name.
func (s *Store) find(ctx context.Context, name string) (*store.Name, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ref, refErr := parseRef(name)
	if refErr == nil {
		n, err := s.s.Name(ctx, ref.stored().String())
		if !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	prefix, isID := idPrefix(name)
	if !isID && (refErr != nil || ref.Digest == "") {
		return nil, cmp.Or(refErr, fault.NotExist("no such image; pull, load or import it first"))
	}
	names, err := s.s.Names(ctx)
	if err != nil {
		return nil, err
	}
	return pick(names, ref, refErr == nil, prefix, isID)
}

// idPrefix returns what an image id would have to begin with.
func idPrefix(s string) (string, bool) {
	s = strings.TrimPrefix(s, "sha256:")
	if s == "" || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", false
	}
	return "sha256:" + s, true
}

// pick finds an image by repository and digest, or by id.
func pick(names []*store.Name, ref Ref, isRef bool, prefix string, isID bool) (*store.Name, error) {
	ids := map[digest.Digest]*store.Name{}
	for _, n := range names {
		if isRef && ref.Digest != "" && string(n.Target) == ref.Digest && repositoryOf(n) == ref.Name() {
			return n, nil
		}
		if isID && (strings.HasPrefix(string(n.ImageID), prefix) || string(n.Target) == prefix || string(n.Manifest) == prefix) {
			found := *n
			found.Name = ""
			ids[n.ImageID] = &found
		}
	}
	switch len(ids) {
	case 0:
		return nil, fault.NotExist("no such image; pull, load or import it first")
	case 1:
		for _, n := range ids {
			return n, nil
		}
	}
	var short []string
	for id := range ids {
		short = append(short, shortID(string(id)))
	}
	slices.Sort(short)
	return nil, fault.Invalid("the id is ambiguous, it may be any of %s: give more digits", strings.Join(short, ", "))
}

// repositoryOf is the name without tag and digest.
func repositoryOf(n *store.Name) string {
	r, err := parseRef(n.Name)
	if err != nil {
		return ""
	}
	return r.Name()
}
