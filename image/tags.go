package image

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// maxTags bounds what a hostile registry can make us collect.
const maxTags = 1 << 20

// Tags lists the tags that the registry, or a mirror of it, has of a
// repository, sorted. The error Is fs.ErrNotExist when it has no such
// repository.
func (s *Store) Tags(ctx context.Context, repository string) ([]string, error) {
	tags, err := s.tags(ctx, repository, nil)
	return tags, fault.New("image tags", repository, err)
}

// PullAll pulls every tag that the registry has of a repository, one after
// another: name has no tag or digest. What was pulled before one fails is
// returned beside the error.
func (s *Store) PullAll(ctx context.Context, name string, opts *PullOptions) ([]*Image, error) {
	tags, err := s.tags(ctx, name, opts)
	if err != nil {
		return nil, fault.New("image pull", name, err)
	}
	var out []*Image
	for _, tag := range tags {
		img, err := s.Pull(ctx, name+":"+tag, opts)
		if err != nil {
			return out, err
		}
		out = append(out, img)
	}
	return out, nil
}

func (s *Store) tags(ctx context.Context, repository string, opts *PullOptions) ([]string, error) {
	ref, err := parseRef(repository)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" || strings.HasSuffix(repository, ":"+ref.Tag) {
		return nil, fault.Invalid("all tags are meant: leave the tag or digest away")
	}
	if opts == nil {
		opts = &PullOptions{}
	}
	p := &puller{s: s, opts: opts, stall: opts.StallTimeout}
	if p.sources, err = s.sources(ref, opts.StallTimeout); err != nil {
		return nil, err
	}
	defer p.close()
	var tags []string
	err = p.ask(ctx, func(src *source) (err error) {
		tags, err = src.tags(ctx)
		return err
	})
	slices.Sort(tags)
	return slices.Compact(tags), err
}

// tags follows the pages of a registry's list.
func (s *source) tags(ctx context.Context) ([]string, error) {
	var all []string
	for at := s.url("tags", "list"); at != ""; {
		var page struct {
			Tags []string `json:"tags"`
		}
		next, err := s.page(ctx, at, &page)
		if err != nil {
			return nil, err
		}
		for _, t := range page.Tags {
			if tagRE().MatchString(t) {
				all = append(all, t)
			}
		}
		if len(page.Tags) == 0 {
			next = "" // an empty page that leads on could go on for ever
		}
		if len(all) > maxTags {
			return nil, fault.Invalid("registry %s lists more than %d tags of %s", s.host, maxTags, s.repo)
		}
		at = next
	}
	return all, nil
}

// page reads one page of a list as JSON, and returns the address of the next,
// "" after the last. That stays on the same host: credentials go with it.
func (s *source) page(ctx context.Context, at string, v any) (next string, err error) {
	resp, err := s.do(ctx, http.MethodGet, at, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, store.MaxMetadata+1))
	if err != nil {
		return "", s.explain(err)
	}
	if len(data) > store.MaxMetadata {
		return "", fault.Invalid("registry %s: a list is larger than %d bytes", s.host, store.MaxMetadata)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return "", fault.Invalid("registry %s: a list is malformed: %w", s.host, err)
	}
	// RFC 8288, as the distribution specification uses it: <URL>; rel="next".
	link, params, _ := strings.Cut(resp.Header.Get("Link"), ">")
	link, ok := strings.CutPrefix(strings.TrimSpace(link), "<")
	if !ok || !strings.Contains(params, "next") {
		return "", nil
	}
	base, err := url.Parse(at)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(link)
	if err != nil || to.Host != base.Host {
		return "", fault.Invalid("registry %s: the list goes on at another host", s.host)
	}
	return to.String(), nil
}
