package image

import (
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// Settings are how all programs on a Root keep images. They are set with
// amphora.Engine.Configure and lie in the Root. The zero value keeps all that
// was pulled and trusts every registry.
type Settings struct {
	// MaxBytes is how much images may take on disk: blobs, unpacked layers and
	// unfinished downloads. 0: no limit. Pull, Load, Import and Commit make
	// room first by dropping compressed blobs that a registry has, then by
	// removing images that no container uses, whatever names they have, those
	// first that were used least recently. A pull for which that is not enough
	// fails and leaves no image. What a pull unpacks is counted once it is
	// complete: nothing says before how large that will be.
	MaxBytes int64
	// DropBlobs drops the compressed blobs of images that came from a registry
	// as soon as their layers are unpacked and synced. They are fetched again
	// from there when a push or save needs them.
	DropBlobs bool
	// Trust says which images may be pulled. Of several rules for an image the
	// one with the longest Scope holds; without any all are accepted.
	Trust []TrustRule
}

// Check reports what is wrong with settings.
func (s *Settings) Check() error {
	if s.MaxBytes < 0 {
		return fault.Invalid("a limit of %d bytes makes no sense: give 0 for none", s.MaxBytes)
	}
	for i := range s.Trust {
		if err := s.Trust[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// settings reads those of the Root.
func (s *Store) settings() (Settings, error) {
	r, err := record.SettingsOf(s.s.Root())
	if err != nil {
		return Settings{}, err
	}
	out := Settings{MaxBytes: r.Images.MaxBytes, DropBlobs: r.Images.DropBlobs}
	for _, rule := range r.Images.Trust {
		out.Trust = append(out.Trust, TrustRule(rule))
	}
	return out, nil
}
