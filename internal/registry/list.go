package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/store"
)

// tags lists the tags of a repository.
func (q *request) tags() error {
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return err
	}
	if len(v.manifests) == 0 {
		return errNoName
	}
	tags, err := q.page(slices.Sorted(maps.Keys(v.tags)), "/v2/"+q.repo+"/tags/list", 0)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{q.repo, tags})
}

// catalogPage is how many repositories are listed at a time.
const catalogPage = 1000

// catalog lists the repositories, as Docker's registry does. Those that the
// client may not read are left out.
func (q *request) catalog() error {
	if !q.may("", List) {
		if q.user == "" && q.opts.Login != nil {
			return q.challenge()
		}
		return errDenied
	}
	s, err := q.names(q.ctx)
	if err != nil {
		return err
	}
	all := []string{}
	for name := range s.names {
		if repo, ok := q.opts.Images.Repository(name); ok && q.may(repo, Pull) {
			all = append(all, repo)
		}
	}
	slices.Sort(all)
	all, err = q.page(all, "/v2/_catalog", catalogPage)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, map[string][]string{"repositories": all})
}

// page cuts a sorted list by the parameters n and last, to at most most if
// that is not 0, and links to what follows.
func (q *request) page(all []string, path string, most int) ([]string, error) {
	query := q.r.URL.Query()
	n := most
	if text := query.Get("n"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 0 {
			return nil, (&failure{http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is malformed: want a number", nil})
		}
		if n = asked; most > 0 {
			n = min(n, most)
		}
		if n == 0 {
			return []string{}, nil
		}
	}
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(all, last)
		if found {
			at++
		}
		all = all[at:]
	}
	if n > 0 && len(all) > n {
		all = all[:n]
		q.link(path, url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}})
	}
	if all == nil {
		all = []string{}
	}
	return all, nil
}

func (q *request) link(path string, query url.Values) {
	q.w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, path, query.Encode()))
}

// maxReferrers is the size that a list of referrers may have: that of a
// manifest that every client accepts.
const maxReferrers = 4<<20 - 4096

// referrers lists the manifests that have d as their subject, also when d is
// not here.
func (q *request) referrers(d digest.Digest) error {
	if store.CheckDigest(d) != nil {
		return errDigest
	}
	v, err := q.view(q.ctx, q.name)
	if err != nil {
		return err
	}
	query := q.r.URL.Query()
	only, last := query.Get("artifactType"), query.Get("last")
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	var found []ocispec.Descriptor
	for _, m := range v.manifests {
		if m.document != nil && m.subject == d && (only == "" || m.ArtifactType == only) && string(m.Digest) > last {
			found = append(found, m.Descriptor)
		}
	}
	slices.SortFunc(found, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	size := 0
	for i, e := range found {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if size += len(text) + 1; size > maxReferrers && i > 0 {
			next := url.Values{"last": {string(found[i-1].Digest)}}
			if only != "" {
				next.Set("artifactType", only)
			}
			q.link("/v2/"+q.repo+"/referrers/"+string(d), next)
			break
		}
		index.Manifests = append(index.Manifests, e)
	}
	if only != "" {
		q.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	q.w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	return q.json(http.StatusOK, index)
}
