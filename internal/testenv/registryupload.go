package testenv

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// uploads are the sessions of a registry, and which repository has which blob:
// go-containerregistry's registry has one pool for all, and keeps nothing of a
// request that was cut.
type uploads struct {
	n        int
	sessions map[string][]byte          // by path
	blobs    map[string][]digest.Digest // by repository
}

// splitBlob takes "/v2/team/app/blobs/REST" apart.
func splitBlob(path string) (repo, rest string, ok bool) {
	path, ok = strings.CutPrefix(path, "/v2/")
	i := strings.LastIndex(path, "/blobs/")
	if !ok || i < 0 {
		return "", "", false
	}
	return path[:i], path[i+len("/blobs/"):], true
}

// Has reports whether a repository has a blob.
func (r *Registry) Has(repository string, d digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.uploads.blobs[repository], d)
}

// Sessions is how many uploads were begun and neither completed nor cancelled.
func (r *Registry) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.uploads.sessions)
}

func (r *Registry) link(repository string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.uploads.blobs == nil {
		r.uploads.blobs, r.uploads.sessions = map[string][]digest.Digest{}, map[string][]byte{}
	}
	r.uploads.blobs[repository] = append(r.uploads.blobs[repository], d)
}

// blob serves what is about uploads, and hides blobs of other repositories. It
// reports whether it answered.
func (r *Registry) blob(w http.ResponseWriter, q *http.Request) bool {
	repo, rest, ok := splitBlob(q.URL.Path)
	if !ok {
		return false
	}
	if !strings.HasPrefix(rest, "uploads/") {
		if q.Method == http.MethodHead && !r.Has(repo, digest.Digest(rest)) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	if q.Method == http.MethodPost {
		return r.begin(w, q, repo)
	}
	r.session(w, q, repo)
	return true
}

func (r *Registry) begin(w http.ResponseWriter, q *http.Request, repo string) bool {
	v := q.URL.Query()
	if d := digest.Digest(v.Get("mount")); d != "" && !r.options.NoMount && r.Has(v.Get("from"), d) {
		r.link(repo, d)
		w.Header().Set("Location", "/v2/"+repo+"/blobs/"+string(d))
		w.WriteHeader(http.StatusCreated)
		return true
	}
	if d := v.Get("digest"); d != "" {
		r.link(repo, digest.Digest(d))
		return false // all in one request
	}
	r.mu.Lock()
	r.uploads.n++
	path := fmt.Sprintf("/v2/%s/blobs/uploads/%d", repo, r.uploads.n)
	if r.uploads.sessions == nil {
		r.uploads.blobs, r.uploads.sessions = map[string][]digest.Digest{}, map[string][]byte{}
	}
	r.uploads.sessions[path] = []byte{}
	r.mu.Unlock()
	w.Header().Set("Location", path+"?_state=secret-of-the-upload")
	w.WriteHeader(http.StatusAccepted)
	return true
}

func (r *Registry) session(w http.ResponseWriter, q *http.Request, repo string) {
	path := q.URL.Path
	r.mu.Lock()
	have, ok := r.uploads.sessions[path]
	r.mu.Unlock()
	if !ok {
		answer(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		return
	}
	w.Header().Set("Location", r.URL+path+"?_state=secret-of-the-upload")
	switch q.Method {
	case http.MethodGet:
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(have)-1)))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		r.drop(path)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPatch, http.MethodPut:
		if from, _, ok := strings.Cut(q.Header.Get("Content-Range"), "-"); ok {
			if n, err := strconv.Atoi(from); err != nil || n != len(have) {
				answer(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID")
				return
			}
		}
		body, err := io.ReadAll(q.Body)
		have = append(have[:len(have):len(have)], body...)
		r.mu.Lock()
		r.uploads.sessions[path] = have // also of a request that was cut
		r.mu.Unlock()
		if err != nil {
			return
		}
		if q.Method == http.MethodPut {
			r.complete(w, q, repo, have)
			return
		}
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(have)-1)))
		w.WriteHeader(http.StatusAccepted)
	}
}

func (r *Registry) complete(w http.ResponseWriter, q *http.Request, repo string, data []byte) {
	d := digest.Digest(q.URL.Query().Get("digest"))
	r.drop(q.URL.Path)
	if digest.FromBytes(data) != d {
		answer(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	in := httptest.NewRequest(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(string(d)), strings.NewReader(string(data)))
	rec := httptest.NewRecorder()
	r.handler.ServeHTTP(rec, in)
	r.link(repo, d)
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(rec.Code)
}

func (r *Registry) drop(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.uploads.sessions, path)
}

func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"said by testenv"}]}`, code)
}

// Refuse answers with a status and an error code of the distribution
// specification, such as 403 and DENIED.
func Refuse(match string, times int, status int, code, message string) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}}
}

// CutBody breaks the connection after n bytes of the request's body, which the
// registry keeps.
func CutBody(match string, times int, n int64) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		body := q.Body
		q.Body = io.NopCloser(io.MultiReader(io.LimitReader(body, n), failing{}))
		next.ServeHTTP(httptest.NewRecorder(), q)
		panic(http.ErrAbortHandler)
	}}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
