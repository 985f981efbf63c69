package image

import (
	"sync"
	"time"
)

// Phase is what is being done with a layer.
type Phase string

const (
	Waiting     Phase = "waiting"     // for its turn, or for another process that fetches it
	Downloading Phase = "downloading" // it is unpacked meanwhile
	Verifying   Phase = "verifying"   // all bytes are there
	Extracting  Phase = "extracting"
	Done        Phase = "done"
	Exists      Phase = "exists" // nothing was to do

	// Of a push or a save alone:
	Compressing Phase = "compressing"
	Uploading   Phase = "uploading"
	Mounted     Phase = "mounted" // the registry had it in another repository
)

// Progress is the state of one layer of an image that is being pulled, loaded
// or pushed.
type Progress struct {
	Layer  string // digest of the blob
	Index  int    // position in the image, 0 is the lowest layer
	Layers int    // how many the image has
	Phase  Phase
	Bytes  int64  // of the blob that are there
	Total  int64  // size of the blob
	From   string // repository that it was mounted from
}

// progressEvery is how often the bytes of a layer are reported, at most.
const progressEvery = 100 * time.Millisecond

// reporter calls a progress function: one call at a time, and in the order in
// which a layer goes through its phases.
type reporter struct {
	mu     sync.Mutex // held during calls; guards what follows
	f      func(Progress)
	layers []layerState
}

type layerState struct {
	Progress
	fetched, unpacked       bool
	wasFetched, wasUnpacked bool // before we came
	said                    time.Time
}

func newReporter(f func(Progress), layers int) *reporter {
	return &reporter{f: f, layers: make([]layerState, layers)}
}

// update changes the state of layer i and tells.
func (r *reporter) update(i int, change func(*layerState)) {
	if r == nil || r.f == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.layers[i]
	before := l.Phase
	change(l)
	l.Index, l.Layers = i, len(r.layers)
	if before == Done || before == Exists || before == Mounted {
		return
	}
	if l.Phase == before && time.Since(l.said) < progressEvery {
		return
	}
	l.said = time.Now()
	r.f(l.Progress)
}

// begin tells that layer i waits.
func (r *reporter) begin(i int, layer string, total int64) {
	r.update(i, func(l *layerState) { l.Layer, l.Total, l.Phase = layer, total, Waiting })
}

func (r *reporter) bytes(i int, n int64) {
	r.update(i, func(l *layerState) { l.Bytes, l.Phase = n, Downloading })
}

func (r *reporter) verifying(i int) {
	r.update(i, func(l *layerState) { l.Bytes, l.Phase = l.Total, Verifying })
}

// fetched tells that the blob is there; existed if nothing was downloaded.
func (r *reporter) fetched(i int, existed bool) {
	r.update(i, func(l *layerState) {
		l.fetched, l.wasFetched, l.Bytes = true, existed, l.Total
		l.finish()
	})
}

// unpacked tells that the layer's tree is there, or will not be made; existed
// if nothing was to do.
func (r *reporter) unpacked(i int, existed bool) {
	r.update(i, func(l *layerState) {
		l.unpacked, l.wasUnpacked = true, existed
		l.finish()
	})
}

// sending tells of a push how many bytes are sent; i is -1 of a config, which is
// no layer.
func (r *reporter) sending(i int, n int64) {
	if i >= 0 {
		r.update(i, func(l *layerState) { l.Bytes, l.Phase = n, Uploading })
	}
}

// sent tells that the registry has the blob, and how it came by it.
func (r *reporter) sent(i int, phase Phase, from string) {
	if i >= 0 {
		r.update(i, func(l *layerState) { l.Bytes, l.Phase, l.From = l.Total, phase, from })
	}
}

func (l *layerState) finish() {
	switch {
	case !l.fetched:
	case !l.unpacked:
		l.Phase = Extracting
	case l.wasFetched && l.wasUnpacked:
		l.Phase = Exists
	default:
		l.Phase = Done
	}
}
