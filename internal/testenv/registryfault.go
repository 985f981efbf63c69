package testenv

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// Fault makes some answers of a Registry go wrong. The functions below make
// the usual ones.
type Fault struct {
	Match string // part of "METHOD /path", e.g. "GET /v2/app/blobs/"
	Times int    // how many answers go wrong; 0: all
	Do    func(w http.ResponseWriter, q *http.Request, next http.Handler)
}

// Inject adds a fault. The first one that matches a request acts.
func (r *Registry) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = -1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

func (r *Registry) fault(line string) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Times != 0 && strings.Contains(line, f.Match) {
			f.Times--
			return f
		}
	}
	return nil
}

// content serves what is stored. Ranges are done here, since
// go-containerregistry's registry knows none without an end.
func (r *Registry) content(w http.ResponseWriter, q *http.Request) {
	if r.blob(w, q) {
		return
	}
	if q.Method != http.MethodGet || q.Header.Get("Range") == "" {
		r.handler.ServeHTTP(w, q)
		return
	}
	whole := record(r.handler, q)
	if whole.Code != http.StatusOK {
		copyAnswer(w, whole, whole.Body.Bytes())
		return
	}
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
}

// record asks for the whole content.
func record(h http.Handler, q *http.Request) *httptest.ResponseRecorder {
	q = q.Clone(q.Context())
	q.Header.Del("Range")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

func copyAnswer(w http.ResponseWriter, from *httptest.ResponseRecorder, body []byte) {
	for name, values := range from.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(from.Code)
	w.Write(body)
}

// Corrupt turns one bit of the answer: the length is right, the digest is not.
func Corrupt(match string, times int) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		whole := record(next, q)
		body := bytes.Clone(whole.Body.Bytes())
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		copyAnswer(w, whole, body)
	}}
}

// Truncate breaks the connection after n bytes of the answer's body.
func Truncate(match string, times int, n int) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		part(w, q, next, n)
		panic(http.ErrAbortHandler)
	}}
}

// Stall sends n bytes of the answer's body and then nothing, until the client
// goes away.
func Stall(match string, times int, n int) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		part(w, q, next, n)
		<-q.Context().Done()
	}}
}

// part sends the head and at most n bytes of the body, and makes sure that
// they leave.
func part(w http.ResponseWriter, q *http.Request, next http.Handler, n int) {
	whole := httptest.NewRecorder()
	next.ServeHTTP(whole, q)
	body := whole.Body.Bytes()
	whole.Header().Set("Content-Length", fmt.Sprint(len(body)))
	copyAnswer(w, whole, body[:min(n, len(body))])
	http.NewResponseController(w).Flush()
}

// Answer gives a status instead of the content; 429 and 503 come with a
// Retry-After of no seconds.
func Answer(match string, times int, status int) Fault {
	return Fault{match, times, func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "0")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":"TESTENV","message":"fault %d on demand"}]}`, status)
	}}
}
