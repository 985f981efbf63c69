package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	// A mirror of Docker Hub that can search.
	hub := newRegistry(t)
	hub.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if req.URL.Path != "/v1/search" {
			return w, false
		}
		if req.URL.Query().Get("q") != "post gres" || req.URL.Query().Get("n") != "25" {
			http.Error(w, "bad query", http.StatusBadRequest)
			return w, true
		}
		fmt.Fprint(w, `{"num_results":3,"results":[{"name":"postgres","description":"The\n database","star_count":9000,"is_official":true},
			{"name":"me/postgres","star_count":2},{"name":"evil\u001b[2J","star_count":1}]}`)
		return w, true
	})
	s := openTest(t, &Options{Mirrors: map[string][]string{"docker.io": {hub.URL}}})
	got, err := s.Search(t.Context(), "post gres", nil)
	if err != nil || len(got) != 3 || got[0] != (SearchResult{"postgres", "The database", 9000, true}) || strings.Contains(got[2].Name, "\x1b") {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Search(t.Context(), "post gres", &SearchOptions{Official: true}); err != nil || len(got) != 1 {
		t.Errorf("official: %+v, %v", got, err)
	}
	if got, err := s.Search(t.Context(), "post gres", &SearchOptions{Stars: 2}); err != nil || len(got) != 2 {
		t.Errorf("by stars: %+v, %v", got, err)
	}
	// A registry that has only a list.
	r := newRegistry(t)
	for _, repo := range []string{"team/web", "team/db", "web"} {
		r.push(repo, "v1", "", tarOf(t, file{name: "f", body: repo}))
	}
	got, err = s.Search(t.Context(), r.host()+"/web", nil)
	if err != nil || len(got) != 2 || !strings.HasPrefix(got[0].Name, r.host()+"/") {
		t.Errorf("%+v, %v", got, err)
	}
	for _, g := range got {
		pullOne(t, s, g.Name+":v1", nil)
	}
	// One that has neither.
	r.set(func(w http.ResponseWriter, req *http.Request) (http.ResponseWriter, bool) {
		if strings.Contains(req.URL.Path, "catalog") {
			http.Error(w, "no", http.StatusForbidden)
			return w, true
		}
		return w, false
	})
	if _, err := s.Search(t.Context(), r.host()+"/web", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("nothing to ask: %v", err)
	}
	if _, err := s.Search(t.Context(), "", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("nothing asked: %v", err)
	}
}
