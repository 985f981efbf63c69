package build

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
)

// job is one request on its way: what the frontend, the engine and the outputs
// have in common. It must be closed.
type job struct {
	request *Request
	session *session
	graph   *graph
	engine  engine
	// export brings what the engine made to the request's outputs. Nil: it is
	// left where it is.
	export func(context.Context, *conversion) (*Result, error)

	mu       sync.Mutex // held while Progress is called; guards warnings
	warnings []Warning
}

// newJob checks the request. Nothing is opened yet.
func newJob(r *Request) (*job, error) {
	if r == nil {
		r = &Request{}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &job{request: r, session: newSession(r), graph: newGraph(r.allowed(), hostPlatform())}, nil
}

func (j *job) Close() error { return j.session.Close() }

// frontend reads the Dockerfile. The job has an engine by now.
func (j *job) frontend(ctx context.Context) (*frontend, error) {
	opts, err := j.session.options()
	if err != nil {
		return nil, err
	}
	return newFrontend(ctx, newGateway(j.engine, j.session, j.graph, opts), j.warn)
}

// tell passes an event on, one at a time.
func (j *job) tell(e Event) {
	if j.request.Progress == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.request.Progress(e)
}

func (j *job) warn(w Warning) {
	j.mu.Lock()
	j.warnings = append(j.warnings, w)
	j.mu.Unlock()
	j.tell(Event{Kind: Warned, Warning: &w})
}

// newStep describes a vertex to who reads events.
func newStep(v *op.Vertex) Step {
	s := Step{ID: string(v.Digest), Name: v.Name, Internal: v.Internal, Places: publicPlaces(v.Places)}
	for _, in := range v.Inputs {
		if in.Vertex != nil {
			s.Inputs = append(s.Inputs, string(in.Vertex.Digest))
		}
	}
	return s
}

func publicPlaces(in []op.Place) []Place {
	var all []Place
	for _, p := range in {
		all = append(all, Place(p))
	}
	return all
}

// hostPlatform is the platform of containers here: always Linux.
func hostPlatform() ocispec.Platform {
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p
}

func platformText(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func isAbs(path string) bool { return filepath.IsAbs(path) }
