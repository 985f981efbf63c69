package image

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// sickness is how long a mirror that failed is asked only when nothing else
// helps.
const sickness = 5 * time.Minute

// health remembers which mirrors failed, for all programs that share a State:
// one empty file for each, whose time counts. What cannot be written is not
// remembered.
type health struct{ dir string }

func (h *health) path(host string) string { return filepath.Join(h.dir, url.PathEscape(host)) }

func (h *health) sick(host string) bool {
	st, err := os.Stat(h.path(host))
	if err != nil {
		return false
	}
	age := time.Since(st.ModTime())
	return age >= 0 && age < sickness
}

// note remembers what a mirror did. That it lacks an image, or denies it, is
// no failure.
func (h *health) note(src *source, err error) {
	if src.origin || src.fixed != "" {
		return
	}
	switch {
	case err == nil:
		if h.sick(src.host) {
			os.Remove(h.path(src.host))
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid), errors.Is(err, errors.ErrUnsupported):
	default:
		now := time.Now()
		if os.MkdirAll(h.dir, 0o700) == nil && os.WriteFile(h.path(src.host), nil, 0o600) == nil {
			os.Chtimes(h.path(src.host), now, now)
		}
	}
}
