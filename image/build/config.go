package build

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
)

// exportComment marks history that no instruction made, as in Docker's images.
const exportComment = "buildkit.exporter.image.v0"

// made is what is known of one layer of an image that is being made.
type made struct {
	diff digest.Digest
	when time.Time
}

// finish completes the configuration that the frontend gave: it gets layers,
// and the times that only whoever executed it knows. What the frontend wrote
// into it otherwise stays, whether we know it or not. base is the configuration
// of the image that the Dockerfile begins with, nil for scratch.
func finish(config, base []byte, layers []made, epoch *time.Time) ([]byte, error) {
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return nil, fault.Invalid("the frontend's configuration of the image: %w", err)
	}
	if img.OS == "" || img.Architecture == "" {
		return nil, fault.Invalid("the frontend's configuration of the image names no platform")
	}
	var old ocispec.Image
	if len(base) > 0 {
		if err := json.Unmarshal(base, &old); err != nil {
			return nil, fault.Invalid("the configuration of the base image: %w", err)
		}
	}
	history := dated(counted(img.History, layers), layers)
	if epoch != nil {
		notAfter(history, old.History, *epoch)
	}
	fields := map[string]any{}
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, fault.Invalid("the frontend's configuration of the image: %w", err)
	}
	for k, v := range raw {
		fields[k] = v
	}
	root := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range layers {
		root.DiffIDs = append(root.DiffIDs, l.diff)
	}
	fields["rootfs"], fields["history"], fields["created"] = root, history, createdAt(img.Created, history, epoch)
	return json.Marshal(fields)
}

// counted gives the history as many entries with a layer as there are layers.
func counted(history []ocispec.History, layers []made) []ocispec.History {
	out := make([]ocispec.History, 0, len(history))
	n := 0
	for _, h := range history {
		if h.EmptyLayer = h.EmptyLayer || n >= len(layers); !h.EmptyLayer {
			n++
		}
		out = append(out, h)
	}
	for range layers[n:] {
		out = append(out, ocispec.History{Comment: exportComment})
	}
	return out
}

// dated gives every entry a time: that of its layer; for what made none, that
// of the layer before it, and for what comes before the first new layer, that
// of the layer. So an instruction of this build never seems to be as old as the
// base image, unless nothing was made at all.
func dated(history []ocispec.History, layers []made) []ocispec.History {
	n := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if history[i].Created == nil && !layers[n].when.IsZero() {
			t := layers[n].when.UTC()
			history[i].Created = &t
		}
		n++
	}
	var last *time.Time // before the first entry without one, or the first after it
	missing := false
	for _, h := range history {
		if h.Created == nil {
			missing = true
			continue
		}
		if last = h.Created; missing {
			break
		}
	}
	missing = false
	for i, h := range history {
		switch {
		case h.Created == nil:
			missing, history[i].Created = true, last
		case missing:
			last = h.Created
		}
	}
	return history
}

// notAfter bounds the times of what is new. The base's history is the base's.
func notAfter(history, base []ocispec.History, epoch time.Time) {
	i := 0
	for i < len(history) && i < len(base) && reflect.DeepEqual(history[i], base[i]) {
		i++
	}
	for ; i < len(history); i++ {
		if c := history[i].Created; c == nil || c.After(epoch) {
			history[i].Created = &epoch
		}
	}
}

// createdAt is the date of an image: its own, if the frontend gave one, or that
// of the last thing that was done.
func createdAt(own *time.Time, history []ocispec.History, epoch *time.Time) *time.Time {
	t := own
	if t == nil {
		for _, h := range history {
			if h.Created != nil {
				t = h.Created
			}
		}
	}
	if t == nil {
		t = &time.Time{}
		if epoch != nil {
			t = epoch
		}
	}
	if epoch != nil && t.After(*epoch) {
		t = epoch
	}
	utc := t.UTC()
	return &utc
}
