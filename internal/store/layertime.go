package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/amphora-go/amphora/internal/layers"
)

// LayerTime is when a layer was made here: when what is known about it was
// written down, which never changes.
func (s *Store) LayerTime(name string) (time.Time, error) {
	if !isHex(name) {
		return time.Time{}, badLayer(name)
	}
	st, err := os.Stat(s.path("layers", layers.Target(s.root, name), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, fmt.Errorf("layer %s: %w", name, ErrNoLayer)
	}
	if err != nil {
		return time.Time{}, s.trouble(err)
	}
	return st.ModTime(), nil
}
