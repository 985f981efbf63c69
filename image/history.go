package image

import "time"

// HistoryEntry is one step of how an image was made.
type HistoryEntry struct {
	Created   time.Time // zero if not recorded
	CreatedBy string    // the command
	Author    string
	Comment   string
	// Layer is the chain id of the layer that the step made, "" if it made none.
	Layer string
	// Size is the content of the layer's files in bytes when it is unpacked,
	// else the size of its blob.
	Size int64
}

// History returns the steps, the newest first. Layers that the config has no
// step for come last, as steps without a command.
func (i *Image) History() []HistoryEntry {
	var out []HistoryEntry
	layer := 0
	for _, h := range i.config.History {
		e := HistoryEntry{CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(i.img.Layers) {
			i.describe(&e, layer)
			layer++
		}
		out = append(out, e)
	}
	for ; layer < len(i.img.Layers); layer++ {
		var e HistoryEntry
		i.describe(&e, layer)
		out = append(out, e)
	}
	for a, b := 0, len(out)-1; a < b; a, b = a+1, b-1 {
		out[a], out[b] = out[b], out[a]
	}
	return out
}

func (i *Image) describe(e *HistoryEntry, layer int) {
	l := i.img.Layers[layer]
	e.Layer, e.Size = l.Chain, l.Blob.Size
	if m, ok, err := i.s.s.Layer(l.Chain); err == nil && ok {
		e.Size = m.Size
	}
}
