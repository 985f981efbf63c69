package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// SearchOptions tune Search.
type SearchOptions struct {
	// Limit is how many results are wanted at most, up to 100, which is what
	// Docker Hub gives. 0: 25.
	Limit int
	// Official and Stars choose among results of Docker Hub.
	Official bool
	Stars    int // at least
}

// SearchResult is a repository that was found.
type SearchResult struct {
	Name        string // as Pull takes it
	Description string
	Stars       int
	Official    bool
}

// Search looks for repositories: in Docker Hub, or with "HOST/TERM" in the
// registry HOST, or a mirror of either. Registries without a search of their
// own are asked for the list of their repositories, of which those are results
// that contain the term. The error Is errors.ErrUnsupported when a registry
// offers neither.
func (s *Store) Search(ctx context.Context, term string, opts *SearchOptions) ([]SearchResult, error) {
	if opts == nil {
		opts = &SearchOptions{}
	}
	found, err := s.search(ctx, term, opts)
	return found, fault.New("image search", term, err)
}

func (s *Store) search(ctx context.Context, term string, opts *SearchOptions) ([]SearchResult, error) {
	limit := cmp.Or(opts.Limit, 25)
	if limit < 0 || limit > 100 {
		return nil, fault.Invalid("a limit of %d results: give 1 to 100", limit)
	}
	host, what := defaultRegistry, term
	if first, rest, ok := strings.Cut(term, "/"); ok && isHost(first) {
		host, what = first, rest
	}
	if strings.TrimSpace(what) == "" || len(what) > 255 {
		return nil, fault.Invalid("what is to be found? give a part of a name")
	}
	all, err := s.sources(Ref{Registry: host, Repository: "x"}, 0)
	if err != nil {
		return nil, err
	}
	p := &puller{s: s, opts: &PullOptions{}, sources: all}
	defer p.close()
	var found []SearchResult
	err = p.ask(ctx, func(src *source) (err error) {
		src.scopes = []string{}
		if found, err = src.search(ctx, what, limit); err == nil || temporary(err) {
			return err
		}
		listed, lerr := src.catalog(ctx, what, limit)
		if lerr != nil {
			return fault.Unsupported("registry %s offers no search (%w) and no list of its repositories (%w)", src.host, err, lerr)
		}
		found = listed
		return nil
	})
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(r SearchResult) bool { return opts.Official && !r.Official || r.Stars < opts.Stars })
	for i := range found {
		if host != defaultRegistry {
			found[i].Name = host + "/" + found[i].Name
		}
	}
	return found, nil
}

// search asks as Docker does. Docker Hub wants no token there.
func (s *source) search(ctx context.Context, term string, limit int) ([]SearchResult, error) {
	at := s.registry.Scheme() + "://" + s.registry.RegistryStr() + "/v1/search?" + url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode()
	var resp *http.Response
	var err error
	if s.origin && s.host == defaultRegistry {
		var req *http.Request
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, at, nil); err != nil {
			return nil, err
		}
		if resp, err = (&http.Client{Transport: s.wire}).Do(req); err != nil {
			return nil, s.explain(withoutQuery(err))
		}
		if err = transport.CheckError(resp, http.StatusOK); err != nil {
			resp.Body.Close()
			return nil, s.explain(err)
		}
	} else if resp, err = s.do(ctx, http.MethodGet, at, nil, http.StatusOK); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, store.MaxMetadata))
	if err != nil {
		return nil, s.explain(err)
	}
	var answer struct {
		Results []struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Stars       int    `json:"star_count"`
			Official    bool   `json:"is_official"`
		} `json:"results"`
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.Results == nil {
		return nil, errors.Join(fault.Kind(fs.ErrInvalid, "registry %s: what it answers is no search", s.host), err)
	}
	var out []SearchResult
	for _, r := range answer.Results[:min(limit, len(answer.Results))] {
		out = append(out, SearchResult{printable(r.Name), strings.Join(strings.Fields(r.Description), " "), r.Stars, r.Official})
	}
	return out, nil
}

// catalog looks through the list of a registry's repositories.
func (s *source) catalog(ctx context.Context, term string, limit int) ([]SearchResult, error) {
	var out []SearchResult
	at := s.registry.Scheme() + "://" + s.registry.RegistryStr() + "/v2/_catalog"
	for seen := 0; at != "" && seen < maxTags; {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		next, err := s.page(ctx, at, &page)
		if err != nil {
			return nil, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, term) && len(out) < limit {
				out = append(out, SearchResult{Name: printable(name)})
			}
		}
		if seen += len(page.Repositories); len(page.Repositories) == 0 || len(out) == limit {
			break
		}
		at = next
	}
	return out, nil
}
